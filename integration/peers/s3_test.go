package peers_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	pq "github.com/parquet-go/parquet-go"

	"github.com/tidemark/tidemark/integration/peers"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
	"github.com/tidemark/tidemark/pipeline/s3store"
	"github.com/tidemark/tidemark/sinks/parquet"
)

// s3 starts the service with an empty bucket of the test's own.
func s3(t *testing.T) (*peers.S3, string) {
	t.Helper()
	s, err := shared.s3()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", peers.S3User)
	t.Setenv("AWS_SECRET_ACCESS_KEY", peers.S3Secret)
	bucket := fmt.Sprintf("bucket-%d", buckets.Add(1))
	if err := s.MakeBucket(bucket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("s3:\n%s", s.Log())
		}
	})
	return s, bucket
}

// buckets counts them; their names are never used twice.
var buckets atomic.Int64

func s3Config(endpoint string) s3store.Config {
	cfg := s3store.DefaultConfig()
	cfg.Endpoint, cfg.PathStyle, cfg.MaxAttempts = endpoint, true, 4
	return cfg
}

// TestS3Store holds the store in a bucket to the contract of every store.
func TestS3Store(t *testing.T) {
	s, bucket := s3(t)
	n := 0
	pipelinetest.TestStore(t, func(t *testing.T) pipelinetest.StorePlace {
		n++
		prefix := fmt.Sprintf("store/%d", n)
		if n%3 == 0 { // a bucket of its own, without a prefix
			_, bucket = s3(t)
			prefix = ""
		}
		own := bucket
		return func() (pipeline.Store, error) {
			store, err := s3store.New(t.Context(), s3Config(s.Endpoint()), own, prefix)
			if err != nil {
				return nil, err
			}
			return store, store.Ready(t.Context())
		}
	})
}

// TestS3LostAnswers: a proxy swallows answers of the service, so that the request is made
// again though it has worked. Every object that a writer was told it made is its own.
func TestS3LostAnswers(t *testing.T) {
	s, bucket := s3(t)
	target, err := url.Parse(s.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	var puts, lost atomic.Int64
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode == http.StatusOK && r.Request.Method != http.MethodGet && r.Request.Method != http.MethodHead && puts.Add(1)%3 == 1 {
				lost.Add(1)
				return errors.New("lost")
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	})
	defer proxy.Close()
	store, err := s3store.New(t.Context(), s3Config(proxy.URL), bucket, "lost")
	if err != nil {
		t.Fatal(err)
	}
	large := make([]byte, 17<<20)
	w, err := store.Create(t.Context(), "from")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(large); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		name := fmt.Sprintf("small/%d", i)
		if err := store.PutIfAbsent(t.Context(), name, []byte(name)); err != nil {
			t.Errorf("PutIfAbsent(%s) = %v", name, err)
		}
		if err := store.PutIfAbsent(t.Context(), name, []byte(name)); !errors.Is(err, pipeline.ErrExists) {
			t.Errorf("PutIfAbsent(%s) again = %v", name, err)
		}
	}
	for i := range 4 {
		if err := store.Link(t.Context(), "from", fmt.Sprintf("large/%d", i)); err != nil {
			t.Errorf("Link %d = %v", i, err)
		}
	}
	if lost.Load() < 6 {
		t.Errorf("%d answers were lost only", lost.Load())
	}
	objects, err := store.List(t.Context(), "")
	if err != nil || len(objects) != 17 {
		t.Errorf("%d objects, %v", len(objects), err)
	}
}

// result is a row of the table below.
type result struct {
	Time int64  `parquet:"time,timestamp(microsecond)"`
	Key  string `parquet:"key,dict"`
}

func (r result) String() string { return fmt.Sprint(r.Time, " ", r.Key) }

func results(epoch int64) []result {
	var rows []result
	for i := range int64(12) {
		rows = append(rows, result{1795323600e6 + i%3*3600e6 + epoch, fmt.Sprintf("device-%d", i)})
	}
	return rows
}

var resultSchema = arrow.NewSchema([]arrow.Field{{Name: "time", Type: pipeline.Timestamp}, {Name: "key", Type: arrow.BinaryTypes.String}}, nil)

// TestS3Sink holds the Parquet sink to the contract of every sink, with its files in a bucket
// and every request that writes broken in three ways.
func TestS3Sink(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	s, bucket := s3(t)
	n := 0
	pipelinetest.TestSink(t, pipelinetest.SinkTest{
		Place: func(t *testing.T) pipelinetest.SinkPlace {
			n++
			store, err := s3store.New(context.Background(), s3Config(s.Endpoint()), bucket, fmt.Sprintf("sink/%d", n))
			if err != nil {
				t.Fatal(err)
			}
			cfg := parquet.DefaultConfig()
			cfg.Job, cfg.Table, cfg.SortBy, cfg.CompleteAfter = pipelinetest.SinkJob, "t", []string{"key"}, 0
			faults := &pipelinetest.Faults{}
			names := func(prefix, suffix string) ([]string, error) {
				objects, err := store.List(context.Background(), prefix)
				var out []string
				for _, o := range objects {
					if strings.HasSuffix(o.Name, suffix) {
						out = append(out, o.Name)
					}
				}
				return out, err
			}
			return pipelinetest.SinkPlace{
				Open: func() (pipeline.Sink, error) {
					return parquet.New(cfg, pipelinetest.FaultStore{Store: store, Faults: faults}, resultSchema)
				},
				Read: func() ([]string, error) {
					files, err := names("t/", ".parquet")
					var out []string
					for _, f := range files {
						b, err := store.GetRange(context.Background(), f, 0, -1)
						if err != nil {
							return nil, err
						}
						rows, err := pq.Read[result](strings.NewReader(string(b)), int64(len(b)))
						if err != nil {
							return nil, err
						}
						for _, r := range rows {
							out = append(out, r.String())
						}
					}
					return out, err
				},
				Leftovers: func() ([]string, error) { return names("_tidemark/staging", "") },
				Faults:    faults,
			}
		},
		Batch: func(n int64) arrow.RecordBatch {
			b := array.NewRecordBuilder(mem, resultSchema)
			defer b.Release()
			for _, r := range results(n) {
				b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(r.Time))
				b.Field(1).(*array.StringBuilder).Append(r.Key)
			}
			return b.NewRecordBatch()
		},
		Want: func(n int64) []string {
			var out []string
			for _, r := range results(n) {
				out = append(out, r.String())
			}
			slices.Sort(out)
			return out
		},
	})
}
