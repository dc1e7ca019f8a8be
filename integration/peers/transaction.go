package peers

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	sink "github.com/tidemark/tidemark/sinks/kafka"
)

// Transactions writes to a partition with a transactional id, which kafka-go's own producer
// cannot.
type Transactions struct {
	client    *kafkago.Client
	id, topic string
	partition int
	producer  int64
	epoch     int16
	seq       int32
	added     bool
}

// Transactions returns a producer of transactions with an id of its own.
func (k *Kafka) Transactions(ctx context.Context, topic string, partition int) (*Transactions, error) {
	x := &Transactions{id: fmt.Sprintf("tidemark-%s-%d", topic, partition), topic: topic, partition: partition,
		client: &kafkago.Client{Addr: kafkago.TCP(k.Addr()), Transport: &kafkago.Transport{}, Timeout: 10 * time.Second}}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		res, err := x.client.InitProducerID(ctx, &kafkago.InitProducerIDRequest{TransactionalID: x.id, TransactionTimeoutMs: 60_000, ProducerID: -1, ProducerEpoch: -1})
		if err == nil {
			err = res.Error
		}
		if err == nil {
			x.producer, x.epoch = int64(res.Producer.ProducerID), int16(res.Producer.ProducerEpoch)
			return x, nil
		}
		if time.Now().After(deadline) { // the coordinator makes its topic on the first request
			return nil, fmt.Errorf("transactional id %s: %w", x.id, err)
		}
	}
}

// Write sends records as one batch of the transaction, which it begins when none is open.
func (x *Transactions) Write(ctx context.Context, recs []sink.Record) error {
	if err := x.begin(ctx); err != nil {
		return fmt.Errorf("begin a transaction of %s: %w", x.id, err)
	}
	b := recordBatch(recs, x.producer, x.epoch, x.seq)
	x.seq += int32(len(recs))
	res, err := x.client.RawProduce(ctx, &kafkago.RawProduceRequest{
		Topic: x.topic, Partition: x.partition, RequiredAcks: kafkago.RequireAll, TransactionalID: x.id,
		RawRecords: protocol.RawRecordSet{Reader: bytes.NewReader(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))},
	})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return fmt.Errorf("write to a transaction of %s: %w", x.id, err)
	}
	return nil
}

func (x *Transactions) begin(ctx context.Context) error {
	if x.added {
		return nil
	}
	res, err := x.client.AddPartitionsToTxn(ctx, &kafkago.AddPartitionsToTxnRequest{
		TransactionalID: x.id, ProducerID: int(x.producer), ProducerEpoch: int(x.epoch),
		Topics: map[string][]kafkago.AddPartitionToTxn{x.topic: {{Partition: x.partition}}},
	})
	if err != nil {
		return err
	}
	for _, p := range res.Topics[x.topic] {
		err = errors.Join(err, p.Error)
	}
	x.added = err == nil
	return err
}

// End commits or aborts. The markers are written after the answer: the next transaction is
// begun only when the coordinator has none under way.
func (x *Transactions) End(ctx context.Context, commit bool) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		res, err := x.client.EndTxn(ctx, &kafkago.EndTxnRequest{TransactionalID: x.id, ProducerID: int(x.producer), ProducerEpoch: int(x.epoch), Committed: commit})
		if err == nil {
			err = res.Error
		}
		if err == nil {
			break
		}
		if !errors.Is(err, kafkago.ConcurrentTransactions) || time.Now().After(deadline) {
			return fmt.Errorf("end a transaction of %s: %w", x.id, err)
		}
	}
	x.added = false
	time.Sleep(300 * time.Millisecond)
	return nil
}

// recordBatch encodes a batch of magic 2 without compression, of a transaction.
func recordBatch(recs []sink.Record, producer int64, epoch int16, seq int32) []byte {
	base := recs[0].Time.UnixMilli()
	var body []byte
	for i, r := range recs {
		var rec []byte
		rec = append(rec, 0) // attributes
		rec = binary.AppendVarint(rec, r.Time.UnixMilli()-base)
		rec = binary.AppendVarint(rec, int64(i))
		rec = append(binary.AppendVarint(rec, int64(len(r.Key))), r.Key...)
		rec = append(binary.AppendVarint(rec, int64(len(r.Value))), r.Value...)
		rec = binary.AppendVarint(rec, 0) // headers
		body = append(binary.AppendVarint(body, int64(len(rec))), rec...)
	}
	const transactional = 0x10
	checked := binary.BigEndian.AppendUint16(nil, transactional)
	checked = binary.BigEndian.AppendUint32(checked, uint32(len(recs)-1))
	checked = binary.BigEndian.AppendUint64(checked, uint64(base))
	checked = binary.BigEndian.AppendUint64(checked, uint64(recs[len(recs)-1].Time.UnixMilli()))
	checked = binary.BigEndian.AppendUint64(checked, uint64(producer))
	checked = binary.BigEndian.AppendUint16(checked, uint16(epoch))
	checked = binary.BigEndian.AppendUint32(checked, uint32(seq))
	checked = binary.BigEndian.AppendUint32(checked, uint32(len(recs)))
	checked = append(checked, body...)

	b := binary.BigEndian.AppendUint64(nil, 0) // base offset
	b = binary.BigEndian.AppendUint32(b, uint32(4+1+4+len(checked)))
	b = binary.BigEndian.AppendUint32(b, 0) // leader epoch
	b = append(b, 2)                        // magic
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(checked, crc32.MakeTable(crc32.Castagnoli)))
	return append(b, checked...)
}
