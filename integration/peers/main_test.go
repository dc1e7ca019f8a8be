package peers_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tidemark/tidemark/integration/peers"
)

// The tests of this package share one broker, one engine and one object service, each with
// topics, tables and buckets of its own.
var shared struct {
	dir        string
	kafka      func() (*peers.Kafka, error)
	clickhouse func() (*peers.ClickHouse, error)
	s3         func() (*peers.S3, error)
	stop       []func() error
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tidemark-peers-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	shared.dir = dir
	shared.kafka = sync.OnceValues(func() (*peers.Kafka, error) {
		k, err := peers.StartKafka(context.Background(), folder("kafka"))
		if err == nil {
			shared.stop = append(shared.stop, k.Stop)
		}
		return k, err
	})
	shared.clickhouse = sync.OnceValues(func() (*peers.ClickHouse, error) {
		c, err := peers.StartClickHouse(context.Background(), folder("clickhouse"))
		if err == nil {
			shared.stop = append(shared.stop, c.Stop)
		}
		return c, err
	})
	shared.s3 = sync.OnceValues(func() (*peers.S3, error) {
		s, err := peers.StartS3(context.Background(), folder("s3"))
		if err == nil {
			shared.stop = append(shared.stop, s.Stop)
		}
		return s, err
	})
	code := m.Run()
	for _, stop := range shared.stop {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func folder(name string) string {
	dir := filepath.Join(shared.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		panic(err) // a folder that was just made
	}
	return dir
}

func kafka(t *testing.T) *peers.Kafka {
	t.Helper()
	k, err := shared.kafka()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("broker:\n%s", k.Log())
		}
	})
	return k
}

func clickhouse(t *testing.T) *peers.ClickHouse {
	t.Helper()
	c, err := shared.clickhouse()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.ClearFaults(context.Background()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("engine:\n%s", c.Log())
		}
	})
	return c
}
