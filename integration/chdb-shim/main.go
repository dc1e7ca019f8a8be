package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "chdb-shim:", err)
		os.Exit(1)
	}
}

// stopTimeout bounds the wait for requests in flight after SIGTERM.
const stopTimeout = 10 * time.Second

func run() error {
	lib := flag.String("lib", "", "libchdb.so")
	dir := flag.String("path", "", "storage `folder`")
	listen := flag.String("listen", "127.0.0.1:8123", "`address` of the HTTP interface")
	control := flag.String("control", "", "`address` of the fault control; none turns it off")
	conns := flag.Int("conns", 8, "statements that run at the same time")
	flag.Parse()
	if *lib == "" || *dir == "" || *conns < 1 {
		return errors.New("give -lib, -path and at least one of -conns")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	l, err := loadLibrary(*lib)
	if err != nil {
		return err
	}
	e, err := openEngine(l, *dir, *conns)
	if err != nil {
		return err
	}
	s, err := newServer(e)
	if err != nil {
		return err
	}
	servers := []*http.Server{{Handler: s, ReadHeaderTimeout: 10 * time.Second}}
	addrs := []string{*listen}
	if *control != "" {
		servers = append(servers, &http.Server{Handler: s.faults, ReadHeaderTimeout: 10 * time.Second})
		addrs = append(addrs, *control)
	}
	failed := make(chan error, len(servers))
	for i, srv := range servers {
		ln, err := net.Listen("tcp", addrs[i])
		if err != nil {
			return err
		}
		go func() { failed <- srv.Serve(ln) }()
	}
	fmt.Println("ready")
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.faults.clear() // lets stalled requests go
	sctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for _, srv := range servers {
		err = errors.Join(err, srv.Shutdown(sctx))
	}
	if err == nil {
		e.close()
	}
	return err
}
