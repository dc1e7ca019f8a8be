package kafka

import (
	"context"
	"net"
	"sync"
)

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// conns knows every connection of a source, so that Close and the watchdog can end calls
// that kafka-go leaves waiting for an answer.
type conns struct {
	connect dialFunc

	mu     sync.Mutex
	open   map[*conn]struct{}
	closed bool
}

type conn struct {
	net.Conn
	owner *conns
}

func (c *conns) dial(ctx context.Context, network, address string) (net.Conn, error) {
	nc, err := c.connect(ctx, network, address)
	if err != nil {
		return nil, err
	}
	k := &conn{Conn: nc, owner: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		nc.Close()
		return nil, ErrClosed
	}
	if c.open == nil {
		c.open = map[*conn]struct{}{}
	}
	c.open[k] = struct{}{}
	return k, nil
}

func (k *conn) Close() error {
	k.owner.mu.Lock()
	delete(k.owner.open, k)
	k.owner.mu.Unlock()
	return k.Conn.Close()
}

// cut closes all connections; with final set no more can be dialed.
func (c *conns) cut(final bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = c.closed || final
	for k := range c.open {
		k.Conn.Close()
	}
	clear(c.open)
}
