// Package kafka reads one Kafka topic as a pipeline.Source. Together with sinks/kafka it
// is the only importer of kafka-go.
//
// Connections, TLS, SASL, metadata and routing are kafka-go's Transport. The fetch loop and
// the record-batch parser are ours, because kafka-go's Reader jumps over aged-out offsets
// without a word, delivers aborted and control records, checks no CRC and can be bombed.
//
// # Rules
//
// All partitions are assigned statically; offsets live in the checkpoint. There is one
// fetch in flight per broker. A split belongs to one fetch at a time, also while it moves
// from one leader to another, so its records stay in order.
//
// Only committed records are delivered. Control batches and aborted transactions are
// passed over; the position moves. A split with an open transaction is not at its log end:
// records of the past can still appear.
//
// A gap is an explicit state. An offset below the log start (ErrAgedOut), past the log end
// (ErrPastEnd), a log whose content differs from what was read before (ErrReplaced) and a
// batch that fails its checksum (ErrCorrupt) end the source with an error, or, with OnGap
// skip_and_record, are passed over with a GapFound event whose Position is where reading
// goes on. Whether a changed log was re-created or truncated is told by the leader epoch:
// a truncation needs an election, which raises it; a new topic starts at 0. After a
// re-creation reading goes on at the log start, after a truncation at the log end.
//
// The check for a changed log reads the last consumed batch again and compares its CRC. It
// runs after a restart and after every error of the split or its broker. A batch that
// retention or compaction has removed cannot be checked. Compaction rewrites batches, so
// on a compacted topic the check can report ErrReplaced for a log that is sound.
//
// A batch that exceeds DecompressLimit, uses an unknown codec or is malformed inside a
// correct checksum becomes Wires with Fault set, one row per record that its header
// counts. Message sets of magic 0 and 1 are refused with ErrFormat, always.
//
// Transient errors (connection lost, leader moved, broker restarted) are retried for ever
// with backoff; the log tells the change of state, not every try. A deleted topic looks
// transient and is retried too.
//
// # Limits
//
// BufferBytes bounds what is fetched and not delivered: one half for responses in flight,
// one for decoded Wires that wait for Next. A batch larger than its share is still read
// alone, so the true bound is BufferBytes plus one batch of at most DecompressLimit per
// broker. A broker that sends a record set above maxRecordSet ends the source.
//
// # Package state
//
// init registers our Fetch messages (key 1, version 11) in place of kafka-go's, because
// kafka-go can hand out raw record sets in no other way. kafkago.Client.Fetch therefore
// panics in a program that imports this package; Reader and Conn are not affected.
package kafka
