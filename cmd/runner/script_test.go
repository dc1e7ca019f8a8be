package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	pq "github.com/parquet-go/parquet-go"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/twmb/franz-go/pkg/kfake"
	"golang.org/x/sys/unix"
)

var updateScripts = flag.Bool("update", false, "write what cmp found into testdata/script")

// TestScript runs testdata/script/*.txt against the program as a process of its own: what
// somebody sees who gives it bad input or a broken world, and that no row is lost by it.
// Beside the commands of testscript these are known:
//
//	broker [-sasl] [-big] TOPIC PARTITIONS  starts a broker; $BROKER is its address
//	records TOPIC/PARTITION FILE            appends one batch; see parseRecords
//	bomb TOPIC/PARTITION TIME N BYTES       appends a zstd batch of n records that is BYTES when unpacked
//	deleterecords TOPIC/PARTITION OFFSET    makes records below OFFSET age out
//	expand FILE...                          replaces $NAME in files
//	exits CODE PROGRAM ARG...               runs, and wants the exit code
//	limited BYTES CODE PROGRAM ARG...       the same, with no file larger than BYTES
//	tmpfs DIR SIZE|ro|rw|off                mounts a disk of SIZE or changes its size, makes it
//	                                        read-only or not, unmounts it
//	committed GROUP TOPIC/PARTITION OFFSET  waits until the group has committed OFFSET
//	logged FILE PATTERN                     waits until a line of the file matches
//	damage [all] DIR                        turns a bit in the newest checkpoint, or in all
//	rows TABLE COLUMN...                    prints a table of Parquet files, sorted
//	unique TABLE N COLUMN...                wants N rows, none twice
//	current [-kept] TABLE ID,... COLUMN...  prints the rows that are valid; -kept is for tables without _tm_del
//
// $EXAMPLES is the folder of examples. The condition [mount] tells whether tmpfs can be used.
func TestScript(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *updateScripts,
		Setup: func(env *testscript.Env) error {
			bin := filepath.Join(env.WorkDir, ".bin")
			if err := os.Mkdir(bin, 0o755); err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("TIDEMARK_TEST_BINARY", "program")
			env.Vars = append(env.Vars, fastExit)
			examples, err := filepath.Abs("../../examples")
			if err != nil {
				return err
			}
			env.Setenv("EXAMPLES", examples)
			env.Values["clusters"] = map[string]*kfake.Cluster{}
			env.Values["mounts"] = map[string]bool{}
			return os.Symlink(self, filepath.Join(bin, "tidemark"))
		},
		Condition: func(cond string) (bool, error) {
			if cond == "mount" {
				return canMount(t), nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"broker":        cmdBroker,
			"records":       cmdRecords,
			"bomb":          cmdBomb,
			"deleterecords": cmdDeleteRecords,
			"expand":        cmdExpand,
			"exits":         cmdExits,
			"limited":       cmdLimited,
			"tmpfs":         cmdTmpfs,
			"committed":     cmdCommitted,
			"logged":        cmdLogged,
			"damage":        cmdDamage,
			"rows":          cmdRows,
			"unique":        cmdUnique,
			"current":       cmdCurrent,
		},
	})
}

// clusterOf returns the script's broker.
func clusterOf(ts *testscript.TestScript) *kfake.Cluster {
	c := ts.Value("clusters").(map[string]*kfake.Cluster)["it"]
	if c == nil {
		ts.Fatalf("no broker yet")
	}
	return c
}

func want(ts *testscript.TestScript, neg, ok bool, usage string) {
	if neg || !ok {
		ts.Fatalf("usage: %s", usage)
	}
}

func cmdBroker(ts *testscript.TestScript, neg bool, args []string) {
	opts := []kfake.Opt{kfake.NumBrokers(1)}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-sasl":
			opts = append(opts, kfake.EnableSASL(), kfake.Superuser("PLAIN", "operator", "right"))
		case "-big":
			opts = append(opts, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "20000000"}))
		default:
			ts.Fatalf("unknown flag %s", args[0])
		}
		args = args[1:]
	}
	want(ts, neg, len(args) == 2, "broker [-sasl] [-big] TOPIC PARTITIONS")
	opts = append(opts, kfake.SeedTopics(int32(number(ts, args[1])), args[0]))
	c, err := kfake.NewCluster(opts...)
	ts.Check(err)
	ts.Defer(c.Close)
	ts.Value("clusters").(map[string]*kfake.Cluster)["it"] = c
	ts.Setenv("BROKER", c.ListenAddrs()[0])
}

func number(ts *testscript.TestScript, s string) int {
	n, err := strconv.Atoi(s)
	ts.Check(err)
	return n
}

func split(ts *testscript.TestScript, s string) (topic string, part int32) {
	topic, p, ok := strings.Cut(s, "/")
	if !ok {
		ts.Fatalf("%q is not TOPIC/PARTITION", s)
	}
	return topic, int32(number(ts, p))
}

func cmdRecords(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 2, "records TOPIC/PARTITION FILE")
	topic, part := split(ts, args[0])
	recs, err := parseRecords(ts.ReadFile(args[1]))
	ts.Check(err)
	ts.Check(appendBatch(clusterOf(ts).ListenAddrs()[0], topic, part, recs))
}

// parseRecords reads one record a line: the broker's timestamp and the value. A value may
// also be `null`, `empty`, `hex BYTES`, `deep N` (arrays N levels deep in a field that
// nobody asked for) or `large N` (an object of about N bytes).
func parseRecords(text string) ([]rawRecord, error) {
	var recs []rawRecord
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		at, value, _ := strings.Cut(line, " ")
		t, err := time.Parse(time.RFC3339, at)
		if err != nil {
			return nil, err
		}
		r := rawRecord{time: t, value: []byte(value)}
		name, arg, _ := strings.Cut(value, " ")
		n, _ := strconv.Atoi(arg)
		switch name {
		case "null":
			r.value = nil
		case "empty":
			r.value = []byte{}
		case "hex":
			if _, err := fmt.Sscanf(arg, "%x", &r.value); err != nil {
				return nil, err
			}
		case "deep":
			r.value = fmt.Appendf(nil, `{"asset_id":"deep","ts_event":%d,"x":%s%s}`, t.UnixMilli(), strings.Repeat("[", n), strings.Repeat("]", n))
		case "large":
			r.value = fmt.Appendf(nil, `{"asset_id":"large","ts_event":%d,"x":"%s"}`, t.UnixMilli(), strings.Repeat("x", n))
		}
		recs = append(recs, r)
	}
	if len(recs) == 0 {
		return nil, errors.New("no records")
	}
	return recs, nil
}

func cmdBomb(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 4, "bomb TOPIC/PARTITION TIME N BYTES")
	topic, part := split(ts, args[0])
	at, err := time.Parse(time.RFC3339, args[1])
	ts.Check(err)
	ts.Check(appendBomb(clusterOf(ts).ListenAddrs()[0], topic, part, at, number(ts, args[2]), number(ts, args[3])))
}

func cmdDeleteRecords(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 2, "deleterecords TOPIC/PARTITION OFFSET")
	topic, part := split(ts, args[0])
	ts.Check(clusterOf(ts).DeleteRecords(topic, part, int64(number(ts, args[1]))))
}

func cmdExpand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) > 0, "expand FILE...")
	for _, f := range args {
		text := os.Expand(ts.ReadFile(f), func(name string) string {
			if strings.Contains(name, ":") { // the program's own
				return "${" + name + "}"
			}
			return ts.Getenv(name)
		})
		ts.Check(os.WriteFile(ts.MkAbs(f), []byte(text), 0o644))
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) > 1, "exits CODE PROGRAM ARG...")
	exits(ts, number(ts, args[0]), args[1:])
}

func exits(ts *testscript.TestScript, code int, args []string) {
	err := ts.Exec(args[0], args[1:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != code {
		ts.Fatalf("exit code %d, want %d", got, code)
	}
}

func cmdLimited(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) > 2, "limited BYTES CODE PROGRAM ARG...")
	ts.Setenv("TIDEMARK_TEST_FILE_SIZE", args[0])
	defer ts.Setenv("TIDEMARK_TEST_FILE_SIZE", "")
	exits(ts, number(ts, args[1]), args[2:])
}

// limitFileSize is called by the process itself, before the program begins.
func limitFileSize() error {
	s := os.Getenv("TIDEMARK_TEST_FILE_SIZE")
	if s == "" {
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return err
	}
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: n})
}

func canMount(t *testing.T) bool {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		return false
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Errorf("%s stays mounted: %v", dir, err)
	}
	return true
}

func cmdTmpfs(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 2, "tmpfs DIR SIZE|ro|rw|off")
	dir := ts.MkAbs(args[0])
	mounted := ts.Value("mounts").(map[string]bool)
	switch args[1] {
	case "ro":
		ts.Check(unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	case "rw":
		ts.Check(unix.Mount("", dir, "", unix.MS_REMOUNT, ""))
	case "off":
		ts.Check(unix.Unmount(dir, 0))
		delete(mounted, dir)
	default:
		if mounted[dir] {
			ts.Check(unix.Mount("", dir, "", unix.MS_REMOUNT, "size="+args[1]))
			return
		}
		ts.Check(os.MkdirAll(dir, 0o755))
		ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+args[1]))
		mounted[dir] = true
		ts.Defer(func() {
			if mounted[dir] {
				ts.Check(unix.Unmount(dir, 0))
			}
		})
	}
}

func cmdCommitted(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 3, "committed GROUP TOPIC/PARTITION OFFSET")
	topic, part := split(ts, args[1])
	offset := int64(number(ts, args[2]))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		g := clusterOf(ts).GroupInfo(args[0])
		if g != nil && g.Commits[topic][part].Offset >= offset {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("group %s has not committed %d: %+v", args[0], offset, g)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func cmdLogged(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 2, "logged FILE PATTERN")
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && pattern.Match(b) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s has no line with %s: %s, %v", args[0], args[1], b, err)
		}
	}
}

func cmdDamage(ts *testscript.TestScript, neg bool, args []string) {
	all := len(args) == 2 && args[0] == "all"
	want(ts, neg, all || len(args) == 1, "damage [all] DIR")
	files, err := filepath.Glob(filepath.Join(ts.MkAbs(args[len(args)-1]), "checkpoints", "*", "splits.arrow"))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("no checkpoints")
	}
	sort.Strings(files)
	if !all {
		files = files[len(files)-1:]
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		ts.Check(err)
		b[len(b)/2] ^= 1
		ts.Check(os.WriteFile(f, b, 0o644))
	}
}

func cmdRows(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) > 1, "rows TABLE COLUMN...")
	lines, err := tableRows(ts.MkAbs(args[0]), args[1:])
	ts.Check(err)
	for _, l := range lines {
		fmt.Fprintln(ts.Stdout(), l)
	}
}

func cmdUnique(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) > 2, "unique TABLE N COLUMN...")
	lines, err := tableRows(ts.MkAbs(args[0]), args[2:])
	ts.Check(err)
	n := len(lines)
	if d := len(slices.Compact(lines)); n != number(ts, args[1]) || d != n {
		ts.Fatalf("%d rows, %d of them unlike, want %s", n, d, args[1])
	}
}

// cmdCurrent prints the rows of a table that are valid: of those that agree in the ID columns
// the one with the largest _tm_ver, unless it says _tm_del.
func cmdCurrent(ts *testscript.TestScript, neg bool, args []string) {
	deleted := []string{"_tm_del"}
	if len(args) > 0 && args[0] == "-kept" {
		args, deleted = args[1:], nil
	}
	want(ts, neg, len(args) > 2, "current [-kept] TABLE ID,... COLUMN...")
	ids := strings.Split(args[1], ",")
	lines, err := tableRows(ts.MkAbs(args[0]), slices.Concat(ids, []string{"_tm_ver"}, deleted, args[2:]))
	ts.Check(err)
	valid, versions := map[string]string{}, map[string]int{}
	for _, l := range lines {
		cells := strings.Split(l, " | ")
		id, version, rest := strings.Join(cells[:len(ids)], " | "), number(ts, cells[len(ids)]), cells[len(ids)+1:]
		gone := deleted != nil && rest[0] == "true"
		rest = rest[len(deleted):]
		if version < versions[id] {
			continue
		}
		versions[id] = version
		delete(valid, id)
		if !gone {
			valid[id] = strings.Join(rest, " | ")
		}
	}
	for _, id := range slices.Sorted(maps.Keys(valid)) {
		fmt.Fprintln(ts.Stdout(), id+" | "+valid[id])
	}
}

// tableRows reads some columns of a table of Parquet files, one line a row, sorted. A table
// that does not exist has no rows.
func tableRows(dir string, columns []string) ([]string, error) {
	var lines []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil || !strings.HasSuffix(path, ".parquet"):
			return err
		}
		more, err := fileRows(path, columns)
		lines = append(lines, more...)
		return err
	})
	sort.Strings(lines)
	return lines, err
}

func fileRows(path string, columns []string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	file, err := pq.OpenFile(f, info.Size())
	if err != nil {
		return nil, err
	}
	var leaves []pq.LeafColumn
	for _, c := range columns {
		leaf, ok := file.Schema().Lookup(strings.Split(c, ".")...)
		if !ok {
			return nil, fmt.Errorf("%s has no column %s, it has %v", path, c, file.Schema().Columns())
		}
		leaves = append(leaves, leaf)
	}
	r := pq.NewReader(file)
	defer r.Close()
	var lines []string
	rows := make([]pq.Row, 64)
	for {
		n, err := r.ReadRows(rows)
		for _, row := range rows[:n] {
			lines = append(lines, rowLine(row, leaves))
		}
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// rowLine prints the values of a row; long ones are cut.
func rowLine(row pq.Row, leaves []pq.LeafColumn) string {
	const most = 72
	var out []string
	for _, leaf := range leaves {
		text := "null"
		for _, v := range row {
			if v.Column() != leaf.ColumnIndex || v.IsNull() {
				continue
			}
			text = fmt.Sprint(v)
			if lt := leaf.Node.Type().LogicalType(); lt != nil && strings.HasPrefix(lt.String(), "TIMESTAMP") {
				text = time.UnixMicro(v.Int64()).UTC().Format(time.RFC3339Nano)
			} else if v.Kind() == pq.ByteArray {
				text = strings.Trim(strconv.QuoteToGraphic(string(v.ByteArray())), `"`)
				text = strings.ReplaceAll(text, `\"`, `"`)
			}
			if len(text) > most {
				text = fmt.Sprintf("%s... (%d)", text[:most], len(v.ByteArray()))
			}
		}
		out = append(out, text)
	}
	return strings.Join(out, " | ")
}
