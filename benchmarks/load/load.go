// Package load writes the events of gen to a topic.
package load

import (
	"context"
	"errors"
	"time"

	"github.com/tidemark/tidemark/benchmarks/gen"
	"github.com/tidemark/tidemark/sinks/kafka"
	source "github.com/tidemark/tidemark/sources/kafka"
)

// atOnce is how many events are sent at a time.
const atOnce = 50_000

// Topic writes the events to a topic in order of arrival, which is their broker timestamp, each to
// its partition, -1 for that of its key.
func Topic(cfg gen.Config, brokers []string, topic string, partition func(gen.Event) int) error {
	conn := source.DefaultConnection()
	conn.Brokers = brokers
	tr, err := conn.Transport()
	if err != nil {
		return err
	}
	pc := kafka.DefaultConfig()
	pc.Brokers = brokers
	prod, err := kafka.New(pc, tr)
	if err != nil {
		return err
	}
	defer prod.Close()
	var recs []kafka.Record
	var buf []byte
	flush := func() error {
		err := prod.Produce(context.Background(), topic, recs)
		recs, buf = recs[:0], make([]byte, 0, cap(buf))
		return err
	}
	err = cfg.Each(func(es []gen.Event) error {
		for _, e := range es {
			at := len(buf)
			buf = e.Key(buf)
			mid := len(buf)
			buf = e.JSON(buf)
			recs = append(recs, kafka.Record{Key: buf[at:mid:mid], Value: buf[mid:len(buf):len(buf)], Time: time.UnixMilli(e.Arrive), Partition: partition(e)})
			if len(recs) == atOnce {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return errors.Join(err, flush())
}
