package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
)

// init runs after the init of protocol/fetch, which kafka-go imports, and replaces its
// messages. protocol.ReadResponse looks at the global table only; see doc.go.
func init() { protocol.Register(&fetchRequest{}, &fetchResponse{}) }

// fetchRequest is Fetch version 11 (Kafka 2.3 and later), sent to the broker that it names.
type fetchRequest struct {
	node int32

	ReplicaID       int32            `kafka:"min=v11,max=v11"`
	MaxWaitTime     int32            `kafka:"min=v11,max=v11"` // milliseconds
	MinBytes        int32            `kafka:"min=v11,max=v11"`
	MaxBytes        int32            `kafka:"min=v11,max=v11"`
	IsolationLevel  int8             `kafka:"min=v11,max=v11"`
	SessionID       int32            `kafka:"min=v11,max=v11"`
	SessionEpoch    int32            `kafka:"min=v11,max=v11"`
	Topics          []fetchTopic     `kafka:"min=v11,max=v11"`
	ForgottenTopics []forgottenTopic `kafka:"min=v11,max=v11"`
	RackID          string           `kafka:"min=v11,max=v11"`
}

type fetchTopic struct {
	Topic      string           `kafka:"min=v11,max=v11"`
	Partitions []fetchPartition `kafka:"min=v11,max=v11"`
}

type fetchPartition struct {
	Partition          int32 `kafka:"min=v11,max=v11"`
	CurrentLeaderEpoch int32 `kafka:"min=v11,max=v11"`
	FetchOffset        int64 `kafka:"min=v11,max=v11"`
	LogStartOffset     int64 `kafka:"min=v11,max=v11"`
	PartitionMaxBytes  int32 `kafka:"min=v11,max=v11"`
}

type forgottenTopic struct {
	Topic      string  `kafka:"min=v11,max=v11"`
	Partitions []int32 `kafka:"min=v11,max=v11"`
}

type fetchResponse struct {
	ThrottleTimeMs int32          `kafka:"min=v11,max=v11"`
	ErrorCode      int16          `kafka:"min=v11,max=v11"`
	SessionID      int32          `kafka:"min=v11,max=v11"`
	Topics         []fetchedTopic `kafka:"min=v11,max=v11"`
}

type fetchedTopic struct {
	Topic      string             `kafka:"min=v11,max=v11"`
	Partitions []fetchedPartition `kafka:"min=v11,max=v11"`
}

type fetchedPartition struct {
	Partition            int32        `kafka:"min=v11,max=v11"`
	ErrorCode            int16        `kafka:"min=v11,max=v11"`
	HighWatermark        int64        `kafka:"min=v11,max=v11"`
	LastStableOffset     int64        `kafka:"min=v11,max=v11"`
	LogStartOffset       int64        `kafka:"min=v11,max=v11"`
	AbortedTransactions  []abortedTxn `kafka:"min=v11,max=v11"`
	PreferredReadReplica int32        `kafka:"min=v11,max=v11"`
	RecordSet            recordSet    `kafka:"min=v11,max=v11"`
}

// abortedTxn says that records of the producer from FirstOffset to its next abort marker
// are aborted.
type abortedTxn struct {
	ProducerID  int64 `kafka:"min=v11,max=v11"`
	FirstOffset int64 `kafka:"min=v11,max=v11"`
}

func (*fetchRequest) ApiKey() protocol.ApiKey  { return protocol.Fetch }
func (*fetchResponse) ApiKey() protocol.ApiKey { return protocol.Fetch }

// Broker routes the request to the broker that our own assignment chose.
func (r *fetchRequest) Broker(protocol.Cluster) (protocol.Broker, error) {
	return protocol.Broker{ID: r.node}, nil
}

// listRequest is kafka-go's ListOffsets request without its Split method, which would
// open one connection per partition; here one request carries all partitions of a leader.
// The wire encoding is found by position of the fields, so the two types must agree.
type listRequest listoffsets.Request

func (*listRequest) ApiKey() protocol.ApiKey { return protocol.ListOffsets }

// Broker routes by the first partition; all of them have the same leader.
func (r *listRequest) Broker(c protocol.Cluster) (protocol.Broker, error) {
	t := r.Topics[0]
	p, ok := c.Topics[t.Topic].Partitions[t.Partitions[0].Partition]
	if !ok {
		return protocol.Broker{}, protocol.NewErrNoPartition(t.Topic, t.Partitions[0].Partition)
	}
	if _, ok := c.Brokers[p.Leader]; !ok {
		return protocol.Broker{}, protocol.NewErrNoLeader(t.Topic, p.ID)
	}
	return c.Brokers[p.Leader], nil
}

const (
	// slack is the number of bytes that can be read behind every key and value.
	slack = 16
	// maxRecordSet bounds the record set of one partition in one response.
	maxRecordSet = 1 << 30
	// readChunk bounds what is allocated on the word of a length prefix.
	readChunk = 4 << 20
)

var errRecordSetSize = errors.New("record set size")

// recordSet is the raw record set of one partition. Its capacity exceeds its length by at
// least slack bytes.
type recordSet []byte

// ReadFrom takes the length prefix and the bytes from a response that is being decoded.
func (s *recordSet) ReadFrom(r io.Reader) (int64, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	n := int(int32(binary.BigEndian.Uint32(head[:])))
	if n <= 0 {
		*s = nil
		return 4, nil
	}
	if n > maxRecordSet {
		return 4, fmt.Errorf("%w: %d bytes, limit %d", errRecordSetSize, n, maxRecordSet)
	}
	b := make([]byte, 0, min(n, readChunk)+slack)
	for len(b) < n {
		if cap(b)-len(b) == slack {
			b = append(make([]byte, 0, min(n, 2*len(b))+slack), b...)
		}
		at := len(b)
		b = b[:min(n, cap(b)-slack)]
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			return int64(4 + at), err
		}
	}
	*s = b
	return int64(4 + n), nil
}
