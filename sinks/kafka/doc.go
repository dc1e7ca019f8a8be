// Package kafka writes to Kafka: records, for `tidemark produce`, the demo and tests
// (Producer), and the results of a job (Sink). Together with sources/kafka it is the only
// importer of kafka-go.
//
// Every write asks for the acknowledgement of all in-sync replicas; kafka-go's own default
// asks for none and loses records over a broker restart without an error.
//
// Delivery is at least once: kafka-go has neither idempotent producers nor transactions, so a
// retry after a lost answer can write a batch twice. Records of one partition keep their order.
//
// A Sink makes that harmless for readers that want it so. At Prepare the rows of an epoch are
// sealed: keys, values, headers and the time of all records go to the store as they will be
// sent. Publish sends what is sealed and nothing else, so a repetition is one in every byte, and
// header tm-dedup is the same in all repetitions of a row and in no other row. When all records
// of an epoch are acknowledged the store says so, and the epoch is not sent again; what is left
// are repetitions after a lost answer, or after a process that died in the middle of an epoch.
//
// Every outcome of an attempt is one of four. Done: the broker said so. Slow down: it refused
// before it wrote (no leader, too few replicas, quota). Unknown: all that may or may not have
// been written. After both the same batch is sent again, after a pause. Fix needed: no
// repetition helps (too large, access, unknown topic); Publish returns and the checkpoint keeps
// the receipt.
//
// Rows that withdraw others are sent as events with header tm-del, not as tombstones: a key may
// be that of many windows, and a tombstone would remove them all from a compacted topic.
//
// The connection pool of a Producer comes from the caller; sources/kafka Connection.Transport
// builds one.
package kafka
