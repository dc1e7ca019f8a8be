package peers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// The service: a gateway that speaks the protocol of S3 over a folder.
const (
	s3Package = "github.com/versity/versitygw/cmd/versitygw"
	S3Version = "v1.8.0"
)

// s3Bin returns the path of the service, which is built once.
func s3Bin() (string, error) {
	dir, err := cached("versitygw-"+S3Version, func(dir string) error {
		_, err := tool(dir, "Go", "env", "GOBIN="+dir, "GOFLAGS=", "CGO_ENABLED=0", "go", "install", "-trimpath", s3Package+"@"+S3Version)
		return err
	})
	return filepath.Join(dir, "versitygw"), err
}

// S3 is the service. It knows one user.
type S3 struct {
	dir, bin string
	port     int
	proc     *process
}

const (
	// S3User and S3Secret are the credentials of the one user.
	S3User   = "integration"
	S3Secret = "integration-secret"

	s3Ready = 30 * time.Second
	s3Stop  = 10 * time.Second
)

// StartS3 starts the service in an empty folder and waits until it takes requests.
func StartS3(ctx context.Context, dir string) (*S3, error) {
	bin, err := s3Bin()
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	s := &S3{dir: dir, bin: bin, port: ports[0]}
	for _, d := range []string{"data", "meta"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("s3: %w", err)
		}
	}
	return s, s.Start(ctx)
}

// Start starts the service again after Stop or Kill.
func (s *S3) Start(ctx context.Context) error {
	// Metadata beside the data: not every file system has room for them in a file's attributes.
	cmd := exec.Command(s.bin, "--port", s.Addr(), "--quiet", "posix", "--sidecar", filepath.Join(s.dir, "meta"), filepath.Join(s.dir, "data"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+S3User, "ROOT_SECRET_KEY="+S3Secret)
	var err error
	if s.proc, err = start("s3", filepath.Join(s.dir, "out.log"), cmd); err != nil {
		return err
	}
	for deadline := time.Now().Add(s3Ready); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", s.Addr(), time.Second)
		switch {
		case err == nil:
			return conn.Close()
		case !s.proc.alive():
			return s.proc.died()
		case ctx.Err() != nil || time.Now().After(deadline):
			return fmt.Errorf("s3 took no requests within %v: %w:\n%s", s3Ready, err, s.Log())
		}
	}
}

// MakeBucket makes a bucket.
func (s *S3) MakeBucket(name string) error { return os.Mkdir(s.Folder(name), 0o755) }

// Folder is where the objects of a bucket lie, as files of their names.
func (s *S3) Folder(bucket string) string { return filepath.Join(s.dir, "data", bucket) }

// Addr is host:port, the same in every life of the service.
func (s *S3) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Endpoint is its URL.
func (s *S3) Endpoint() string { return "http://" + s.Addr() }

// Stop ends the service with SIGTERM.
func (s *S3) Stop() error { return s.proc.stop(s3Stop) }

// Kill ends the service with SIGKILL.
func (s *S3) Kill() error { return s.proc.kill() }

// Log returns the end of what the service printed.
func (s *S3) Log() string { return s.proc.tail() }
