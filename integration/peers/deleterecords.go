package peers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// DeleteRecords removes the records of a partition before an offset, as retention would.
// kafka-go has no such request: it is encoded here (key 21, version 1).
func (k *Kafka) DeleteRecords(ctx context.Context, topic string, partition int32, before int64) error {
	fail := func(err error) error {
		return fmt.Errorf("delete records of %s/%d before %d: %w", topic, partition, before, err)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", k.Addr())
	if err != nil {
		return fail(err)
	}
	defer conn.Close() //nolint:errcheck // the answer was read
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return fail(err)
	}
	text := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	const key, version, id, timeoutMS = 21, 1, 1, 20_000
	req := binary.BigEndian.AppendUint16(nil, key)
	req = binary.BigEndian.AppendUint16(req, version)
	req = binary.BigEndian.AppendUint32(req, id)
	req = text(req, "tidemark-peers")
	req = binary.BigEndian.AppendUint32(req, 1) // topics
	req = text(req, topic)
	req = binary.BigEndian.AppendUint32(req, 1) // partitions
	req = binary.BigEndian.AppendUint32(req, uint32(partition))
	req = binary.BigEndian.AppendUint64(req, uint64(before))
	req = binary.BigEndian.AppendUint32(req, timeoutMS)
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(req))), req...)); err != nil {
		return fail(err)
	}
	// Size, id, throttle time, one topic with its name, one partition with its number and
	// low watermark; the error is the last of it.
	res := make([]byte, 4+4+4+4+2+len(topic)+4+4+8+2)
	if _, err := io.ReadFull(conn, res); err != nil {
		return fail(err)
	}
	if size := int(binary.BigEndian.Uint32(res)); size != len(res)-4 {
		return fail(fmt.Errorf("answer of %d bytes, want %d", size, len(res)-4))
	}
	if code := int16(binary.BigEndian.Uint16(res[len(res)-2:])); code != 0 {
		return fail(kafkago.Error(code))
	}
	if low := int64(binary.BigEndian.Uint64(res[len(res)-10:])); low != before {
		return fail(errors.New("the log now starts at " + fmt.Sprint(low)))
	}
	return nil
}
