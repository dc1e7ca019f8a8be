package peers

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a child that ends when this process does.
type process struct {
	name string
	log  string // file with what it printed
	cmd  *exec.Cmd
	// ended is closed after it ended; err is then its outcome.
	ended chan struct{}
	err   error
}

// start starts a command whose output is appended to a file.
func start(name, log string, cmd *exec.Cmd) (*process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("%s: log: %w", name, err)
	}
	defer f.Close() //nolint:errcheck // the child has its own
	cmd.Stdout, cmd.Stderr = f, f
	p := &process{name: name, log: log, cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The death signal is sent when the thread that started the child ends, so that
		// thread must live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// alive tells whether it still runs.
func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill sends SIGKILL and waits.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		return p.died()
	}
	if err != nil {
		return fmt.Errorf("%s: kill: %w", p.name, err)
	}
	<-p.ended
	return nil
}

// stop sends SIGTERM and waits; after grace it kills.
func (p *process) stop(grace time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		if errors.Is(err, os.ErrProcessDone) {
			return p.died()
		}
		return fmt.Errorf("%s: stop: %w", p.name, err)
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(grace):
		return errors.Join(fmt.Errorf("%s did not end within %v of SIGTERM", p.name, grace), p.kill())
	}
}

// died says that it ended by itself, and how.
func (p *process) died() error {
	<-p.ended
	return fmt.Errorf("%s ended by itself: %w:\n%s", p.name, errors.Join(p.err, errors.New(p.cmd.ProcessState.String())), p.tail())
}

// tail returns the end of what it printed.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return lastLines(string(b))
}

// Ports of peers lie below the kernel's range for outgoing connections, where a port could
// be taken while its peer is down.
const (
	firstPort = 20000
	lastPort  = 30000
)

// freePorts finds n ports of the loopback address that nobody listens on.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer ln.Close() //nolint:errcheck // held until all are found
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("ports %d..%d: no %d of them are free", firstPort, lastPort, n)
}
