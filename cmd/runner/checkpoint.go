package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/s3store"
)

// cmdCheckpoint is the group of commands that read checkpoints.
func cmdCheckpoint(ctx context.Context, args []string, out streams) error {
	commands := map[string]func(context.Context, []string, streams) error{
		"ls":      cmdCheckpointLs,
		"inspect": cmdCheckpointInspect,
		"verify":  cmdCheckpointVerify,
		"diff":    cmdCheckpointDiff,
	}
	if len(args) > 0 {
		if run, ok := commands[args[0]]; ok {
			return run(ctx, args[1:], out)
		}
		if slices.Contains([]string{"-h", "-help", "--help"}, args[0]) {
			return cmdCheckpointLs(ctx, args[:1], out)
		}
	}
	return &usageError{"checkpoint: want ls, inspect, verify or diff; `tidemark checkpoint COMMAND --help` shows the flags"}
}

// stateFlags say where checkpoints are and how they are shown.
type stateFlags struct {
	*flags
	file, dir, format string
}

func newStateFlags(name, example, what string) *stateFlags {
	f := &stateFlags{flags: newFlags(name, example, what+". It only reads; the job may run meanwhile")}
	f.StringVar(&f.file, "f", "", "job `file`, whose checkpoints are read")
	f.StringVar(&f.dir, "dir", "", "`directory` of the checkpoints, or s3://bucket/prefix, in place of the job's")
	f.StringVar(&f.format, "o", formatTable, "`form` of the output: table or json")
	return f
}

// parse returns what is not a flag.
func (f *stateFlags) parse(args []string) ([]string, error) {
	rest, err := f.parseFiles(args)
	switch {
	case err != nil:
		return nil, err
	case f.format != formatTable && f.format != formatJSON:
		return nil, &usageError{fmt.Sprintf("%s: -o %q: want table or json", f.Name(), f.format)}
	case f.file == "" && f.dir == "":
		return nil, &usageError{f.Name() + ": want -f with a job file, or --dir with the directory of its checkpoints"}
	}
	return rest, nil
}

// unknown refuses an argument.
func (f *stateFlags) unknown(arg string) error {
	return &usageError{fmt.Sprintf("%s: unexpected %q; `tidemark %s --help` shows the flags", f.Name(), arg, f.Name())}
}

// epochsOf reads epochs from the command line.
func (f *stateFlags) epochsOf(args []string) ([]int64, error) {
	var out []int64
	for _, a := range args {
		n, err := strconv.ParseInt(a, 10, 64)
		if err != nil || n < 0 {
			return nil, &usageError{fmt.Sprintf("%s: %q: want the epoch of a checkpoint, as `tidemark checkpoint ls` shows it", f.Name(), a)}
		}
		out = append(out, n)
	}
	return out, nil
}

// start parses the command line of a command that takes up to most epochs, and opens the
// checkpoints.
func (f *stateFlags) start(ctx context.Context, args []string, most int) (*stateView, []int64, error) {
	rest, err := f.parse(args)
	if err != nil {
		return nil, nil, err
	}
	if len(rest) > most {
		return nil, nil, f.unknown(rest[most])
	}
	epochs, err := f.epochsOf(rest)
	if err != nil {
		return nil, nil, err
	}
	v, err := f.open(ctx)
	return v, epochs, err
}

// stateView is a directory of checkpoints that is read.
type stateView struct {
	dir         string
	job         *Config // nil: no job file was named
	store       pipeline.Store
	checkpoints *pipeline.Checkpoints
}

// open opens the checkpoints.
func (f *stateFlags) open(ctx context.Context) (*stateView, error) {
	v := &stateView{dir: f.dir}
	var s3 *S3Config
	if f.file != "" {
		cfg, err := loadConfig(f.file)
		if err != nil {
			return nil, err
		}
		v.job, v.dir, s3 = &cfg, cmp.Or(f.dir, cfg.Checkpoint.Dir), cfg.Checkpoint.S3
	}
	store, err := readStore(ctx, v.dir, s3)
	if err != nil {
		return nil, fmt.Errorf("checkpoints: %w", err)
	}
	v.store = store
	v.checkpoints = pipeline.NewCheckpoints(store, 1, boundedAllocator{memory.DefaultAllocator})
	return v, nil
}

// readStore opens the store of a dir to read from it.
func readStore(ctx context.Context, dir string, s3 *S3Config) (pipeline.Store, error) {
	if !inBucket(dir) {
		return pipeline.ReadLocalStore(dir, pipeline.DefaultFS())
	}
	bucket, prefix, err := s3store.ParseURL(dir)
	if err != nil {
		return nil, fmt.Errorf("dir %w", err)
	}
	if s3 == nil {
		s3 = &S3Config{s3store.DefaultConfig()}
	}
	return s3store.New(ctx, s3.Config, bucket, prefix)
}

// boundedAllocator refuses what only a broken file asks for. The panic is an error of whoever
// reads the file.
type boundedAllocator struct{ memory.Allocator }

// mostBuffer is the largest buffer of a checkpoint; a piece has a few of them.
const mostBuffer = 4 << 30

// Allocate implements memory.Allocator.
func (a boundedAllocator) Allocate(n int) []byte {
	if n < 0 || n > mostBuffer {
		panic(fmt.Sprintf("a buffer of %d bytes", n))
	}
	return a.Allocator.Allocate(n)
}

// Reallocate implements memory.Allocator.
func (a boundedAllocator) Reallocate(n int, b []byte) []byte {
	if n < 0 || n > mostBuffer {
		panic(fmt.Sprintf("a buffer of %d bytes", n))
	}
	return a.Allocator.Reallocate(n, b)
}

// list returns the checkpoints; that there is none is an error.
func (v *stateView) list(ctx context.Context) ([]pipeline.Listed, error) {
	all, err := v.checkpoints.List(ctx)
	for attempt := 1; err == nil && len(all) == 0 && attempt < attempts; attempt++ {
		all, err = v.checkpoints.List(ctx)
	}
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%s has no checkpoints: the job has not made one yet, or they are somewhere else (checkpoint.dir)", visible(v.dir))
	}
	return all, err
}

// newest returns the checkpoint that the newest commit names.
func (v *stateView) newest(ctx context.Context) (pipeline.Listed, error) {
	all, err := v.list(ctx)
	if err != nil {
		return pipeline.Listed{}, err
	}
	for _, l := range all {
		if l.Newest {
			return usable(l)
		}
	}
	return pipeline.Listed{}, fmt.Errorf("the newest commit names no checkpoint that is there: %w; `tidemark checkpoint verify` says what a start would use", pipeline.ErrNotExist)
}

// at returns the checkpoint of an epoch.
func (v *stateView) at(ctx context.Context, epoch int64) (pipeline.Listed, error) {
	all, err := v.list(ctx)
	if err != nil {
		return pipeline.Listed{}, err
	}
	var there []string
	for _, l := range all {
		if l.Epoch == epoch {
			return usable(l)
		}
		there = append(there, strconv.FormatInt(l.Epoch, 10))
	}
	return pipeline.Listed{}, fmt.Errorf("there is no checkpoint %d; there are %s", epoch, strings.Join(there, ", "))
}

// attempts is how often the newest checkpoint is tried to be read: a job that makes one in less
// time than it takes removes it meanwhile.
const attempts = 5

// with calls use with the checkpoint of the first epoch, or with the newest when there is none.
func (v *stateView) with(ctx context.Context, epochs []int64, use func(pipeline.Listed) error) error {
	for attempt := 1; ; attempt++ {
		l, err := v.newest(ctx)
		if len(epochs) > 0 {
			l, err = v.at(ctx, epochs[0])
		}
		if err == nil {
			err = use(l)
		}
		if !errors.Is(err, pipeline.ErrNotExist) || attempt == attempts {
			return err
		}
	}
}

func usable(l pipeline.Listed) (pipeline.Listed, error) {
	if l.Err != nil {
		return l, fmt.Errorf("%w; `tidemark checkpoint verify` says which one a start would use", l.Err)
	}
	return l, nil
}

// tick is a time or a mark as people read it.
type tick int64

func (t tick) String() string {
	switch int64(t) {
	case pipeline.MinTicks:
		return "-"
	case pipeline.MaxTicks:
		return "end"
	}
	return time.UnixMicro(int64(t)).UTC().Format(time.RFC3339Nano)
}

// MarshalJSON implements json.Marshaler: null for none.
func (t tick) MarshalJSON() ([]byte, error) {
	if int64(t) == pipeline.MinTicks {
		return []byte("null"), nil
	}
	return json.Marshal(t.String())
}

// visible is a text of a checkpoint as it may go to a terminal.
func visible(s string) string {
	for _, r := range s {
		if r == unicode.ReplacementChar || !unicode.IsGraphic(r) {
			return strconv.QuoteToGraphic(s)
		}
	}
	return s
}

// fates are rows by what became of them.
type fates [pipeline.NumFates]int64

// MarshalJSON implements json.Marshaler.
func (f fates) MarshalJSON() ([]byte, error) {
	m := map[string]int64{}
	for i, n := range f {
		m[pipeline.Fate(i).String()] = n
	}
	return json.Marshal(m)
}

// String leaves out what is zero.
func (f fates) String() string {
	var parts []string
	for i, n := range f {
		if fate := pipeline.Fate(i); n != 0 || fate == pipeline.Read {
			parts = append(parts, fmt.Sprintf("%s %d", fate, n))
		}
	}
	return strings.Join(parts, ", ")
}

// sumFates adds up the rows of splits.
func sumFates(splits []pipeline.SplitState) fates {
	var sum fates
	for _, s := range splits {
		for i, n := range s.Counts {
			sum[i] += n
		}
	}
	return sum
}

func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// listLine is a checkpoint of checkpoint ls.
type listLine struct {
	Epoch    int64     `json:"epoch"`
	Newest   bool      `json:"newest"`
	Named    bool      `json:"named"`
	Written  time.Time `json:"written"`
	Lineage  uint16    `json:"lineage"`
	Mark     tick      `json:"event_mark"`
	Splits   int       `json:"splits"`
	Rows     fates     `json:"rows"`
	Pieces   int       `json:"pieces"`
	Files    int       `json:"files"`
	Bytes    int64     `json:"bytes"`
	Verified string    `json:"verified"` // manifest or files
	Problem  string    `json:"problem,omitempty"`
}

// cmdCheckpointLs lists the checkpoints of a job.
func cmdCheckpointLs(ctx context.Context, args []string, out streams) error {
	f := newStateFlags("checkpoint ls", "tidemark checkpoint ls -f job.yaml", "lists the checkpoints that are there, the newest first: whether a commit names them (newest: a start uses it), and whether their manifests and small files are as they were written")
	verify := f.Bool("verify", false, "read all files, state included, and compare their checksums")
	v, _, err := f.start(ctx, args, 0)
	if err != nil {
		return err
	}
	all, err := v.list(ctx)
	if err != nil {
		return err
	}
	var lines []listLine
	for _, l := range all {
		line := lineOf(l)
		if *verify && l.Err == nil {
			damaged, err := v.checkpoints.Verify(ctx, l.Checkpoint)
			if errors.Is(err, pipeline.ErrNotExist) {
				continue // the job has removed it
			}
			if err != nil {
				return err
			}
			if line.Verified = "files"; len(damaged) > 0 {
				line.Problem = problemOf(l.Epoch, damaged[0].Err)
			}
		}
		lines = append(lines, line)
	}
	if f.format == formatJSON {
		return printJSON(out.stdout, lines)
	}
	t := newTable(out.stdout)
	fmt.Fprintln(t, "EPOCH\tLINEAGE\tWRITTEN\tMARK\tSPLITS\tROWS\tPIECES\tBYTES\tNAMED\tVERIFIES")
	for _, l := range lines {
		named, verdict := "no", l.Verified+" ok"
		switch {
		case l.Newest:
			named = "newest"
		case l.Named:
			named = "yes"
		}
		if l.Problem != "" {
			verdict = "no: " + visible(l.Problem)
		}
		if l.Files == 0 { // its manifest tells nothing that counts
			fmt.Fprintf(t, "%d\t-\t%s\t-\t-\t-\t-\t-\t%s\t%s\n", l.Epoch, l.Written.Format(time.RFC3339), named, verdict)
			continue
		}
		fmt.Fprintf(t, "%d\t%d\t%s\t%s\t%d\t%s\t%d\t%d\t%s\t%s\n", l.Epoch, l.Lineage, l.Written.Format(time.RFC3339), l.Mark, l.Splits, l.Rows, l.Pieces, l.Bytes, named, verdict)
	}
	return t.Flush()
}

func lineOf(l pipeline.Listed) listLine {
	line := listLine{Epoch: l.Epoch, Newest: l.Newest, Named: l.Named, Written: l.Written.UTC(), Mark: tick(pipeline.MinTicks), Verified: "manifest"}
	if l.Err != nil {
		line.Problem = problemOf(l.Epoch, l.Err)
		return line
	}
	cp := l.Checkpoint
	line.Lineage, line.Mark, line.Splits, line.Rows = cp.Lineage, tick(cp.Merged.Event), len(cp.Splits), sumFates(cp.Splits)
	line.Pieces, line.Files, line.Bytes = len(cp.Pieces), len(cp.Files), bytesOf(cp.Files)
	return line
}

// problemOf is what is wrong with a checkpoint, beside its number.
func problemOf(epoch int64, err error) string {
	text := strings.TrimPrefix(err.Error(), fmt.Sprintf("checkpoint %d: ", epoch))
	return strings.TrimPrefix(text, pipeline.ErrCheckpoint.Error()+": ")
}

func bytesOf(files []pipeline.FileRef) int64 {
	n := int64(0)
	for _, f := range files {
		n += f.Size
	}
	return n
}

// verifyReport is what checkpoint verify has found.
type verifyReport struct {
	Checkpoints []verifyLine `json:"checkpoints"`
	// Start is the checkpoint that a start would use, nil for none.
	Start *startLine `json:"start"`
	// Refused says why a start would use none.
	Refused string `json:"refused,omitempty"`
}

type verifyLine struct {
	Epoch    int64    `json:"epoch"`
	Files    int      `json:"files"`
	Bytes    int64    `json:"bytes"`
	OK       bool     `json:"ok"`
	Problems []string `json:"problems,omitempty"`
}

type startLine struct {
	Epoch   int64  `json:"epoch"`
	Lineage uint16 `json:"lineage"`
	// Rewound: newer ones are passed over, and the job begins a new lineage.
	Rewound bool `json:"rewound"`
}

// cmdCheckpointVerify reads checkpoints whole.
func cmdCheckpointVerify(ctx context.Context, args []string, out streams) error {
	f := newStateFlags("checkpoint verify", "tidemark checkpoint verify -f job.yaml", "reads every file of checkpoint EPOCH, or of all, compares it with its checksum, and says which checkpoint a start would use; exit code 1 when a file is corrupt")
	v, epochs, err := f.start(ctx, args, 1)
	if err != nil {
		return err
	}
	r, err := v.verify(ctx, epochs)
	if err != nil {
		return err
	}
	if f.format == formatJSON {
		err = printJSON(out.stdout, r)
	} else {
		r.print(out.stdout)
	}
	return errors.Join(err, r.err())
}

// verify reads the checkpoint of an epoch, or all of them.
func (v *stateView) verify(ctx context.Context, epochs []int64) (*verifyReport, error) {
	all, err := v.list(ctx)
	if err != nil {
		return nil, err
	}
	if len(epochs) > 0 {
		if !slices.ContainsFunc(all, func(l pipeline.Listed) bool { return l.Epoch == epochs[0] }) {
			_, err := v.at(ctx, epochs[0])
			return nil, err
		}
		all = slices.DeleteFunc(all, func(l pipeline.Listed) bool { return l.Epoch != epochs[0] })
	}
	r := &verifyReport{Checkpoints: []verifyLine{}}
	for _, l := range all {
		line := verifyLine{Epoch: l.Epoch}
		if l.Err != nil {
			line.Problems = append(line.Problems, problemOf(l.Epoch, l.Err))
			r.Checkpoints = append(r.Checkpoints, line)
			continue
		}
		damaged, err := v.checkpoints.Verify(ctx, l.Checkpoint)
		if errors.Is(err, pipeline.ErrNotExist) {
			continue // the job has removed it
		}
		if err != nil {
			return nil, err
		}
		line.Files, line.Bytes, line.OK = len(l.Checkpoint.Files), bytesOf(l.Checkpoint.Files), len(damaged) == 0
		for _, d := range damaged {
			line.Problems = append(line.Problems, problemOf(l.Epoch, d.Err))
		}
		r.Checkpoints = append(r.Checkpoints, line)
	}
	cp, skipped, err := v.checkpoints.Load(ctx)
	for attempt := 1; errors.Is(err, pipeline.ErrNotExist) && attempt < attempts; attempt++ {
		cp, skipped, err = v.checkpoints.Load(ctx)
	}
	switch {
	case errors.Is(err, pipeline.ErrCheckpoint) || errors.Is(err, pipeline.ErrNewer):
		r.Refused = strings.ReplaceAll(err.Error(), "\n", "; ")
	case err != nil:
		return nil, err
	case cp != nil:
		r.Start = &startLine{cp.Epoch, cp.Lineage, len(skipped) > 0}
	}
	return r, nil
}

// err says that something is corrupt.
func (r *verifyReport) err() error {
	bad := 0
	for _, l := range r.Checkpoints {
		if !l.OK {
			bad++
		}
	}
	if bad == 0 {
		return nil
	}
	return fmt.Errorf("checkpoint verify: %d of %d checkpoints cannot be used", bad, len(r.Checkpoints))
}

func (r *verifyReport) print(w io.Writer) {
	for _, l := range r.Checkpoints {
		if l.OK {
			fmt.Fprintf(w, "checkpoint %d: %d files, %d bytes, all as they were written\n", l.Epoch, l.Files, l.Bytes)
		}
		for _, p := range l.Problems {
			fmt.Fprintf(w, "checkpoint %d: CORRUPT: %s\n", l.Epoch, visible(p))
		}
	}
	switch {
	case r.Refused != "":
		fmt.Fprintf(w, "a start would be refused: %s\n", visible(r.Refused))
	case r.Start == nil:
		fmt.Fprintln(w, "a start would begin anew: no checkpoint counts")
	case r.Start.Rewound:
		fmt.Fprintf(w, "a start would use checkpoint %d of lineage %d, passing over what is corrupt, and begin a new lineage\n", r.Start.Epoch, r.Start.Lineage)
	default:
		fmt.Fprintf(w, "a start would use checkpoint %d, lineage %d\n", r.Start.Epoch, r.Start.Lineage)
	}
}
