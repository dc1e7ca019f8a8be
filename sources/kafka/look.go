package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/tidemark/tidemark/pipeline"
)

// Log reads parts of a topic for somebody who looks: it keeps no position, belongs to no
// group and starts no goroutine. It is used by one goroutine.
type Log struct{ s *Source }

// Extent is what a partition holds: the first offset that is there, and the end of what is
// committed.
type Extent struct{ Start, End int64 }

// Look connects to the cluster of a configuration, whose limits hold here as well.
func Look(cfg Config) (*Log, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka %s: %w", cfg.Topic, err)
	}
	tr, err := cfg.Transport()
	if err != nil {
		return nil, fmt.Errorf("kafka %s: %w", cfg.Topic, err)
	}
	s := &Source{cfg: cfg, addr: kafkago.TCP(cfg.Brokers...), tr: tr,
		conns: &conns{connect: (&net.Dialer{Timeout: cfg.DialTimeout}).DialContext}}
	tr.Dial = s.conns.dial
	tr.MetadataTopics = []string{cfg.Topic}
	return &Log{s}, nil
}

// Close ends the connections.
func (l *Log) Close() {
	l.s.conns.cut(true)
	l.s.tr.CloseIdleConnections()
}

// Extents returns what every partition holds.
func (l *Log) Extents(ctx context.Context) (map[int32]Extent, error) {
	out := map[int32]Extent{}
	err := l.try(ctx, func(ctx context.Context) error {
		parts, err := l.parts(ctx)
		if err != nil {
			return err
		}
		low, err := l.s.list(ctx, parts, atStart, uncommitted)
		if err != nil {
			return err
		}
		high, err := l.s.list(ctx, parts, atEnd, committed)
		for _, p := range parts {
			out[p] = Extent{low[p].offset, high[p].offset}
		}
		return err
	})
	return out, err
}

// From returns for every partition the offset of its first record with a broker timestamp at
// or after t, in ticks, and the end of the partition where there is none.
func (l *Log) From(ctx context.Context, t int64) (map[int32]int64, error) {
	out := map[int32]int64{}
	err := l.try(ctx, func(ctx context.Context) error {
		parts, err := l.parts(ctx)
		if err != nil {
			return err
		}
		at, err := l.s.list(ctx, parts, max(0, t/1000), committed)
		if err != nil {
			return err
		}
		ends, err := l.s.list(ctx, parts, atEnd, committed)
		for _, p := range parts {
			if out[p] = at[p].offset; at[p].offset < 0 {
				out[p] = ends[p].offset
			}
		}
		return err
	})
	return out, err
}

func (l *Log) parts(ctx context.Context) ([]int32, error) {
	leaders, err := l.s.leaders(ctx)
	return slices.Sorted(maps.Keys(leaders)), err
}

// lookTries is how often a request is sent.
const lookTries = 5

// try repeats what may pass, for as long as OpenTimeout.
func (l *Log) try(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, l.s.cfg.OpenTimeout)
	defer cancel()
	for n := 1; ; n++ {
		err := do(ctx)
		if err == nil {
			return nil
		}
		if n == lookTries || permanent(err) || !pause(ctx, backoff(n)) {
			return fmt.Errorf("kafka %s: %w", l.s.cfg.Topic, l.s.cfg.Explain(err))
		}
	}
}

// Read gives take the records of a partition from offset from up to to (exclusive) in order,
// a run at a time, until take returns false. Runs without records are left out. Offsets that
// are gone are ErrAgedOut, and to is at most the end of the partition.
func (l *Log) Read(ctx context.Context, partition int32, from, to int64, take func(w *pipeline.Wire) (more bool, err error)) error {
	parse := newParser(int(l.s.cfg.DecompressLimit), groupBytes)
	defer parse.close()
	pos := onward(pipeline.Position{LastIngest: pipeline.MinTicks}, from)
	empty := 0
	for pos.Offset < to {
		var answer fetchedPartition
		if err := l.try(ctx, func(ctx context.Context) (err error) {
			answer, err = l.fetch(ctx, partition, pos.Offset)
			return err
		}); err != nil {
			return err
		}
		before := pos
		parse.start(answer.RecordSet, pos, false, to, answer.HighWatermark, answer.AbortedTransactions)
		for {
			w, err := parse.next()
			if err != nil {
				return fmt.Errorf("kafka %s/%d@%d: %w", l.s.cfg.Topic, partition, pos.Offset, err)
			}
			if w == nil {
				break
			}
			pos = w.Next
			if w.Len() == 0 {
				continue
			}
			if more, err := take(w); err != nil || !more {
				return err
			}
		}
		if pos.Offset > before.Offset {
			empty = 0
		} else if empty++; empty == suspectTries { // compaction has left nothing
			return nil
		}
	}
	return nil
}

// fetch asks the leader of a partition once.
func (l *Log) fetch(ctx context.Context, partition int32, offset int64) (fetchedPartition, error) {
	leaders, err := l.s.leaders(ctx)
	if err != nil {
		return fetchedPartition{}, err
	}
	node, ok := leaders[partition]
	if !ok {
		return fetchedPartition{}, fmt.Errorf("%w: there is no partition %d, the topic has %d", ErrUnknownTopic, partition, len(leaders))
	}
	cfg := l.s.cfg
	m, err := l.s.tr.RoundTrip(ctx, l.s.addr, &fetchRequest{
		node: node, ReplicaID: -1, SessionEpoch: -1, MinBytes: 1, IsolationLevel: committed,
		MaxWaitTime: int32(cfg.FetchWait.Milliseconds()), MaxBytes: int32(cfg.FetchMaxBytes),
		Topics: []fetchTopic{{Topic: cfg.Topic, Partitions: []fetchPartition{{
			Partition: partition, CurrentLeaderEpoch: -1, FetchOffset: offset, LogStartOffset: -1, PartitionMaxBytes: int32(cfg.MaxBatchBytes),
		}}}},
	})
	if err != nil {
		return fetchedPartition{}, err
	}
	res := m.(*fetchResponse)
	if res.ErrorCode != 0 {
		return fetchedPartition{}, kafkago.Error(res.ErrorCode)
	}
	if len(res.Topics) != 1 || len(res.Topics[0].Partitions) != 1 {
		return fetchedPartition{}, errors.New("the answer is of other partitions")
	}
	p := res.Topics[0].Partitions[0]
	switch code := kafkago.Error(p.ErrorCode); code {
	case 0:
		return p, nil
	case kafkago.OffsetOutOfRange:
		return p, fmt.Errorf("%w: the log of partition %d does not hold offset %d", ErrAgedOut, partition, offset)
	case kafkago.TopicAuthorizationFailed:
		return p, l.s.denied("read")
	default:
		return p, code
	}
}
