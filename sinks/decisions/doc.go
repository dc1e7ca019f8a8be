// Package decisions keeps, beside the checkpoints of a job, what it takes to say why: which
// rows did not go the ordinary way (Sink), and where the marks stood (History).
//
// Both are lists that only grow at their end and are bounded by bytes and age. Their objects
// are Arrow files that any reader of Arrow opens:
//
//	decisions/<lineage>-<epoch>-<n>.arrow   rows that were late, dead or duplicates
//	marks/<lineage>-<epoch>-<n>.arrow       a row per published checkpoint and split
//
// An object is named by the epoch of its first rows. The newest one is replaced as a whole
// whenever it grows, until it is full.
//
// The decisions of an epoch are durable before the checkpoint that ends it, so a row which the
// checkpoint has passed and which is not among them went the ordinary way. A process that dies
// in between leaves decisions of an epoch that is done again: whoever does it again writes them
// again, and of two decisions on one row the later one counts. The history is written when a
// checkpoint was published, at most once a second; a point that was lost with the process makes
// what is said of its time less near, never wrong.
package decisions
