package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rawRecord is a record with its broker timestamp. A nil value is null.
type rawRecord struct {
	time       time.Time
	key, value []byte
}

// appendBatch sends records as one batch, byte for byte as they are given here.
func appendBatch(broker, topic string, part int32, recs []rawRecord) error {
	var body []byte
	first := recs[0].time.UnixMilli()
	last := first
	for i, r := range recs {
		body = appendRecord(body, i, r, first)
		last = max(last, r.time.UnixMilli())
	}
	return produceBatch(broker, topic, part, kmsg.RecordBatch{FirstTimestamp: first, MaxTimestamp: last, NumRecords: int32(len(recs)), Records: body})
}

// appendBomb sends a zstd batch of n records that decompresses to size zero bytes.
func appendBomb(broker, topic string, part int32, at time.Time, n, size int) error {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	const zstdCodec = 4
	return produceBatch(broker, topic, part, kmsg.RecordBatch{Attributes: zstdCodec, FirstTimestamp: at.UnixMilli(), MaxTimestamp: at.UnixMilli(),
		NumRecords: int32(n), Records: enc.EncodeAll(make([]byte, size), nil)})
}

func appendRecord(b []byte, i int, r rawRecord, first int64) []byte {
	field := func(b, v []byte) []byte {
		if v == nil {
			return binary.AppendVarint(b, -1)
		}
		return append(binary.AppendVarint(b, int64(len(v))), v...)
	}
	body := []byte{0} // attributes
	body = binary.AppendVarint(body, r.time.UnixMilli()-first)
	body = binary.AppendVarint(body, int64(i))
	body = field(field(body, r.key), r.value)
	body = append(body, 0) // no headers
	return append(binary.AppendVarint(b, int64(len(body))), body...)
}

// produceVersion is the last one whose messages have no tags.
const produceVersion = 8

// sendBatch completes a batch and sends it in a request of its own.
func produceBatch(broker, topic string, part int32, rb kmsg.RecordBatch) error {
	rb.Magic, rb.PartitionLeaderEpoch = 2, -1
	rb.ProducerID, rb.ProducerEpoch, rb.FirstSequence = -1, -1, -1
	rb.LastOffsetDelta = rb.NumRecords - 1
	b := rb.AppendTo(nil)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))

	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks = produceVersion, -1
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = part, b
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	conn, err := net.Dial("tcp", broker)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)); err != nil {
		return err
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	answer := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	res := kmsg.NewPtrProduceResponse()
	res.Version = produceVersion
	if err := res.ReadFrom(answer[4:]); err != nil {
		return err
	}
	if err := kerr.ErrorForCode(res.Topics[0].Partitions[0].ErrorCode); err != nil {
		return fmt.Errorf("%s/%d: %w", topic, part, err)
	}
	return nil
}
