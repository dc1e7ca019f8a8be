//go:build crash

package crash

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// passed counts how often the wanted point was passed; a process has one crash at most.
var passed atomic.Int64

// At kills the process when TIDEMARK_CRASH names this point and this passing of it.
func At(point string) {
	name, nth, ok := strings.Cut(os.Getenv("TIDEMARK_CRASH"), ":")
	if !ok || name != point {
		return
	}
	n, err := strconv.ParseInt(nth, 10, 64)
	if err != nil || passed.Add(1) != n {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
