// Package clickhouse writes one ClickHouse table, each block of rows exactly once.
//
// Prepare seals an epoch: rows sorted by partition and key, cut into blocks that hold one
// partition and at most BlockRows rows, written as one Arrow IPC stream to the store. The
// receipt names that object, its checksum and its blocks. A block is never cut again and
// never made anew, so every attempt to send it sends the same rows under the same
// deduplication token.
//
// Publish sends block by block, each as one INSERT, and then records the epoch in table
// tm_commits. What it may not assume is that a token protects for ever: the server
// forgets tokens after a time and a number of blocks. So before a block is sent again
// after an outcome that is not known, and whenever another process may have sent it, the
// rows of the block are counted in the table: it carries _tm_lineage, _tm_epoch and
// _tm_block for that. An INSERT into one partition is atomic, so a block is there or not.
//
// Every outcome is one of four. Done: the server said so. Slow down: the server refused
// before it wrote (too many parts, memory, read-only); the same block is sent again after
// a pause. Unknown: everything that may or may not have been written; the block is
// verified, then sent again if it is absent. Fix needed: no repetition helps (unknown
// table, access, types); Publish returns and the checkpoint keeps the receipt.
//
// A record of tm_commits has the mark of its barrier and what follows from it for the time
// column; an epoch without rows is recorded when its mark rose, at most once in CommitEvery.
// View tm_complete shows the newest of each table.
//
// The table belongs to one job. Rows of a later revision have a larger _tm_ver; a
// ReplacingMergeTree keeps the largest, and the view <table>_current shows it. A row whose
// column _tm_del is true withdraws those with its sort key: it is stored with _tm_del = 1,
// and the view shows none of them unless one with a larger _tm_ver has come. Rows that hold
// the old values of a change (-U) are sent like any other, not as deletions: the new values
// (+U) follow with a larger _tm_ver, so that whoever reads between two blocks finds the old
// values, not none. The table is no changelog: of the rows of a sort key in one INSERT the
// server keeps the last alone. The Parquet files have them all.
//
// Structs are flattened to dotted columns, lists of plain values at the top are arrays,
// all other lists are JSON text: ClickHouse takes array columns with a common prefix for
// one nested table and wants them equally long. An absent list at the top or an absent
// map is an empty one, since ClickHouse has no Nullable of either.
//
// This is the only package that imports clickhouse-go.
package clickhouse
