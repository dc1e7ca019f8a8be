package peers

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The engine: an npm package of one shared library.
const (
	enginePackage = "@chdb/lib-linux-x64-gnu"
	EngineVersion = "26.7.3-stable.1"
	engineMember  = "package/libchdb.so"
	engineFile    = "libchdb.so"
	engineSHA256  = "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5" // of libchdb.so
)

// engineLib returns the path of the library. Its checksum is verified every time: a cache
// that was damaged must not become a test that fails strangely.
func engineLib() (string, error) {
	dir, err := cached("chdb-"+EngineVersion, func(dir string) error {
		out, err := tool(dir, "Node.js with npm", "npm", "pack", enginePackage+"@"+EngineVersion, "--silent")
		if err != nil {
			return err
		}
		names := strings.Fields(out)
		if len(names) == 0 {
			return fmt.Errorf("npm pack %s@%s named no file", enginePackage, EngineVersion)
		}
		tgz := filepath.Join(dir, names[len(names)-1])
		if err := extract(tgz, engineMember, filepath.Join(dir, engineFile)); err != nil {
			return err
		}
		return os.Remove(tgz)
	})
	if err != nil {
		return "", err
	}
	lib := filepath.Join(dir, engineFile)
	return lib, verify(lib, engineSHA256)
}

// extract writes one member of a gzipped tar to a file.
func extract(tgz, member, to string) (err error) {
	f, err := os.Open(tgz)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", tgz, err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err != nil {
			return fmt.Errorf("%s: member %s: %w", tgz, member, err)
		}
		if h.Name != member {
			continue
		}
		out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, r)
		return errors.Join(err, out.Close())
	}
}

// verify compares a file with the SHA-256 that it must have.
func verify(path, want string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("checksum of %s: %w", path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%s has SHA-256 %s, not %s: the download was damaged or changed; remove %s to fetch it anew", path, got, want, filepath.Dir(path))
	}
	return nil
}

// Kinds of Fault; the shim's faults.go says what each does.
const (
	DropBefore         = "drop_before"
	DropAfterCommit    = "drop_after_commit"
	HTTP500AfterCommit = "http500_after_commit"
	Code252            = "code252"
	Stall              = "stall"
	StallAfterCommit   = "stall_after_commit"
	CloseMidBody       = "close_mid_body"
	RunLate            = "run_late"
	KillBefore         = "kill_before"
	KillAfterCommit    = "kill_after_commit"
)

// Fault hits N statements that contain Match after Skip that it lets pass; an empty Match is
// any INSERT INTO.
type Fault struct {
	Kind  string
	Match string
	Skip  int
	N     int
}

// ClickHouse is the engine behind its HTTP interface.
type ClickHouse struct {
	dir, lib, shim string
	port, ctrl     int
	proc           *process
}

// clickhouseReady bounds the wait for the engine to open its folder (seconds when the
// library is not in the page cache), clickhouseStop that for its end.
const (
	clickhouseReady = 60 * time.Second
	clickhouseStop  = 30 * time.Second
)

// StartClickHouse starts the engine on a folder and waits until it answers. The working
// directory of the caller must be inside this module: the shim is built from there.
func StartClickHouse(ctx context.Context, dir string) (*ClickHouse, error) {
	lib, err := engineLib()
	if err != nil {
		return nil, fmt.Errorf("clickhouse: %w", err)
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, fmt.Errorf("clickhouse: %w", err)
	}
	c := &ClickHouse{dir: dir, lib: lib, shim: filepath.Join(dir, "chdb-shim"), port: ports[0], ctrl: ports[1]}
	if err := Build(c.shim, "", "github.com/tidemark/tidemark/integration/chdb-shim"); err != nil {
		return nil, fmt.Errorf("clickhouse: %w", err)
	}
	return c, c.Start(ctx)
}

// Build builds a Go program without cgo. dir is where go build runs.
func Build(out, dir, pkg string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", out, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w:\n%s", pkg, err, lastLines(string(b)))
	}
	return nil
}

// Start starts the engine again after Stop or Kill, on the same folder and ports.
func (c *ClickHouse) Start(ctx context.Context) error {
	var err error
	c.proc, err = start("clickhouse", filepath.Join(c.dir, "out.log"), exec.Command(c.shim, "-lib", c.lib, "-path", filepath.Join(c.dir, "data"),
		"-listen", fmt.Sprintf("127.0.0.1:%d", c.port), "-control", fmt.Sprintf("127.0.0.1:%d", c.ctrl)))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, clickhouseReady)
	defer cancel()
	for {
		_, err := c.do(ctx, http.MethodGet, c.URL()+"/ping", "")
		switch {
		case err == nil:
			return nil
		case !c.proc.alive():
			return c.proc.died()
		case ctx.Err() != nil:
			return errors.Join(fmt.Errorf("clickhouse gave no answer within %v: %w:\n%s", clickhouseReady, err, c.Log()), c.proc.kill())
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// Addr is host:port of the HTTP interface, URL the same with its scheme.
func (c *ClickHouse) Addr() string { return fmt.Sprintf("127.0.0.1:%d", c.port) }
func (c *ClickHouse) URL() string  { return "http://" + c.Addr() }

// Query runs a statement and returns its answer, tab separated unless it says otherwise.
func (c *ClickHouse) Query(ctx context.Context, sql string) (string, error) {
	out, err := c.do(ctx, http.MethodPost, c.URL(), sql)
	if err != nil {
		return "", fmt.Errorf("clickhouse: %w", err)
	}
	return out, nil
}

func (c *ClickHouse) do(ctx context.Context, method, to, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d: %s", res.StatusCode, strings.TrimSpace(string(b)))
	}
	return string(b), nil
}

// Inject adds a fault.
func (c *ClickHouse) Inject(ctx context.Context, f Fault) error {
	q := url.Values{"kind": {f.Kind}, "n": {fmt.Sprint(f.N)}, "skip": {fmt.Sprint(f.Skip)}}
	if f.Match != "" {
		q.Set("match", f.Match)
	}
	if _, err := c.do(ctx, http.MethodPost, c.control()+"/?"+q.Encode(), ""); err != nil {
		return fmt.Errorf("fault %s: %w", f.Kind, err)
	}
	return nil
}

// Hits returns how many statements the faults have hit since ClearFaults.
func (c *ClickHouse) Hits(ctx context.Context) (int, error) {
	kinds, err := c.HitsByKind(ctx)
	n := 0
	for _, hits := range kinds {
		n += hits
	}
	return n, err
}

// HitsByKind returns the same for every kind of fault.
func (c *ClickHouse) HitsByKind(ctx context.Context) (map[string]int, error) {
	out, err := c.do(ctx, http.MethodGet, c.control(), "")
	if err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	var list []struct {
		Kind string `json:"kind"`
		Hits int    `json:"hits"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	kinds := map[string]int{}
	for _, f := range list {
		kinds[f.Kind] += f.Hits
	}
	return kinds, nil
}

// ClearFaults removes all faults; requests that a stall holds are cut.
func (c *ClickHouse) ClearFaults(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodDelete, c.control(), "")
	return err
}

func (c *ClickHouse) control() string { return fmt.Sprintf("http://127.0.0.1:%d", c.ctrl) }

// Stop ends the engine with SIGTERM.
func (c *ClickHouse) Stop() error { return c.proc.stop(clickhouseStop) }

// Alive tells whether the engine runs.
func (c *ClickHouse) Alive() bool { return c.proc.alive() }

// Kill ends the engine with SIGKILL.
func (c *ClickHouse) Kill() error { return c.proc.kill() }

// Log returns the end of what the engine printed.
func (c *ClickHouse) Log() string { return c.proc.tail() }
