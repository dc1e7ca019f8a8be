package kafka

import (
	"context"
	"errors"
	"fmt"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

// Timestamps that ListOffsets reads as ends of the log.
const (
	atStart = -2
	atEnd   = -1
)

// Isolation levels.
const (
	uncommitted = 0
	committed   = 1
)

// leaders returns the leader of every partition of the topic, -1 for none, from
// kafka-go's view of the cluster, which is at most metadataTTL old.
func (s *Source) leaders(ctx context.Context) (map[int32]int32, error) {
	m, err := s.tr.RoundTrip(ctx, s.addr, &metadata.Request{TopicNames: []string{s.cfg.Topic}})
	if err != nil {
		return nil, s.cfg.Explain(err)
	}
	t := m.(*metadata.Response).Topics[0]
	switch code := kafkago.Error(t.ErrorCode); code {
	case 0:
	case kafkago.UnknownTopicOrPartition, kafkago.InvalidTopic:
		return nil, fmt.Errorf("%w %q on %s: create it or correct topic", ErrUnknownTopic, s.cfg.Topic, s.addr)
	case kafkago.TopicAuthorizationFailed:
		return nil, s.denied("describe")
	default:
		return nil, fmt.Errorf("metadata of topic %s: %w", s.cfg.Topic, code)
	}
	out := make(map[int32]int32, len(t.Partitions))
	for _, p := range t.Partitions {
		out[p.PartitionIndex] = p.LeaderID
	}
	return out, nil
}

func (s *Source) denied(operation string) error {
	return fmt.Errorf("%w: user %q may not %s topic %q: grant it READ and DESCRIBE", ErrCredentials, s.cfg.SASL.User, operation, s.cfg.Topic)
}

// listed is an offset with the leader epoch of the record before it, -1 where unknown.
type listed struct {
	offset int64
	epoch  int32
}

// list asks for one offset of every partition in parts: by the ends of the log, or of the
// first record at or after time, in milliseconds; the offset is -1 when there is none.
func (s *Source) list(ctx context.Context, parts []int32, time int64, isolation int8) (map[int32]listed, error) {
	leaders, err := s.leaders(ctx)
	if err != nil {
		return nil, err
	}
	byLeader := map[int32][]listoffsets.RequestPartition{}
	for _, p := range parts {
		leader, ok := leaders[p]
		if !ok || leader < 0 {
			return nil, fmt.Errorf("%s/%d: %w", s.cfg.Topic, p, kafkago.LeaderNotAvailable)
		}
		byLeader[leader] = append(byLeader[leader], listoffsets.RequestPartition{
			Partition: p, CurrentLeaderEpoch: -1, Timestamp: time,
		})
	}
	out := make(map[int32]listed, len(parts))
	for _, ps := range byLeader {
		m, err := s.tr.RoundTrip(ctx, s.addr, &listRequest{
			ReplicaID: -1, IsolationLevel: isolation,
			Topics: []listoffsets.RequestTopic{{Topic: s.cfg.Topic, Partitions: ps}},
		})
		if err != nil {
			return nil, fmt.Errorf("offsets of topic %s: %w", s.cfg.Topic, err)
		}
		for _, t := range m.(*listoffsets.Response).Topics {
			for _, p := range t.Partitions {
				switch code := kafkago.Error(p.ErrorCode); code {
				case 0:
					out[p.Partition] = listed{p.Offset, p.LeaderEpoch}
				case kafkago.TopicAuthorizationFailed:
					return nil, s.denied("read")
				default:
					return nil, fmt.Errorf("offsets of %s/%d: %w", s.cfg.Topic, p.Partition, code)
				}
			}
		}
	}
	if len(out) != len(parts) {
		return nil, errors.New("offsets of topic " + s.cfg.Topic + ": answer lacks partitions")
	}
	return out, nil
}

// bounds are the ends of one partition's log.
type bounds struct {
	start, end int64 // end is the high watermark
	epoch      int32
}

func (s *Source) bounds(ctx context.Context, parts []int32) (map[int32]bounds, error) {
	low, err := s.list(ctx, parts, atStart, uncommitted)
	if err != nil {
		return nil, err
	}
	high, err := s.list(ctx, parts, atEnd, uncommitted)
	if err != nil {
		return nil, err
	}
	out := make(map[int32]bounds, len(parts))
	for _, p := range parts {
		out[p] = bounds{low[p].offset, high[p].offset, high[p].epoch}
	}
	return out, nil
}
