// Package pipeline holds the vocabulary of Tidemark and its runtime: splits, wire
// batches, rows, marks, operators, sinks, checkpoints, and the loop that drives them.
//
// # Definitions
//
// Tick: 1 microsecond. Inside the engine every time, size, gap, bound and lateness is
// an int64 number of ticks; time.Duration lives in configuration only. Sums of ticks
// saturate (AddTicks).
//
// Split: one ordered input, a Kafka partition or a file. Its index in the job's split
// table is fixed for the life of a lineage; column _split carries that index.
//
// Wire: a run of undecoded records of one split, in offset order.
//
// Batch: an immutable run of rows of one split, an arrow.RecordBatch whose first four
// columns are time, _split, _offset and _ingest, optionally narrowed to some rows.
// A batch is lent: whoever keeps it after the call retains it.
//
// Event time: column time, timestamp[us, UTC]. It decides windows, order and lateness.
//
// Ingest time: the broker's timestamp of the record, column _ingest. It is data too: it
// guards against clocks that run ahead and tells when a split is quiet. No wall clock
// decides anything.
//
// Mark: an inclusive watermark. A mark of t says that no more rows with time <= t are
// expected. A split's mark is max over its rows of (time - bound - 1), taken after every
// row; it never falls. The merged mark is the minimum over the splits that are not quiet.
//
// Late: a row is late for a window when min(max int64, end - 1 + lateness) is not above
// the mark of the row's own split just before that row. So the verdict is a function of
// the split's content alone, whatever the other splits do. The merged mark never passes a
// split's own mark, so a row that is on time finds its window open. The one exception is
// a split that was quiet: a row that comes back behind a mark already given is Late with
// reason quiet_split.
//
// Fate: what became of a row that was read: aggregated, late, dead, filtered or
// duplicate. Per split the five add up to the rows read, at every barrier.
//
// Reference table: rows that others get columns from, by key. It is not in the log: a new
// content holds for the rows that the front takes after it.
//
// Shard: one single-threaded worker with the keys of a contiguous range of key groups.
//
// Key group: one of 256 ranges of the key hash; the unit in which state is written, read
// and moved. A checkpoint restores at any number of shards.
//
// Barrier: an in-band signal that cuts the stream of every shard at the same offsets.
//
// Epoch: the interval between two barriers; epoch n ends at barrier n.
//
// Stage: the rows of one epoch for one sink, durable but not visible. Receipt: what a
// checkpoint keeps of a prepared stage so that it can be published, once or again.
//
// Lineage: a number minted at every rewind, fork or replay; part of every file name and
// token, so that work redone is never mistaken for work repeated.
package pipeline
