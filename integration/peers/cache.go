package peers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Cache is the folder that keeps downloads: $TIDEMARK_CACHE, or tidemark in the user's
// cache folder.
func Cache() (string, error) {
	if dir := os.Getenv("TIDEMARK_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache folder: %w: set TIDEMARK_CACHE", err)
	}
	return filepath.Join(dir, "tidemark"), nil
}

// cached returns the folder of a download. make fills a new folder, which gets the name
// once it is whole; processes that want the same download take turns.
func cached(name string, make func(dir string) error) (dir string, err error) {
	root, err := Cache()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", fmt.Errorf("cache folder: %w", err)
	}
	unlock, err := lock(filepath.Join(root, name+".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	dir = filepath.Join(root, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	tmp, err := os.MkdirTemp(root, name+".part-")
	if err != nil {
		return "", fmt.Errorf("cache folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	if err := make(tmp); err != nil {
		return "", fmt.Errorf("download of %s: %w", name, err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return "", fmt.Errorf("cache folder: %w", err)
	}
	return dir, nil
}

// lock waits for the lock of a file, which ends with the process.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cache lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("cache lock %s: %w", path, err), f.Close())
	}
	return func() { f.Close() }, nil //nolint:errcheck // closing lets go of the lock
}

// tool runs a program of the machine in a folder and returns what it printed.
func tool(dir, need, name string, args ...string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is not on the PATH: install %s", name, need)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w:\n%s", name, strings.Join(args, " "), err, lastLines(stdout.String()+stderr.String()))
	}
	return stdout.String(), nil
}

// shownLines is how many lines of a log an error shows.
const shownLines = 30

func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-shownLines):], "\n")
}
