// Package parquet writes one table as Parquet files, each of them visible exactly once.
//
// An epoch's rows are sorted by partition and key and written to staged objects below
// _tidemark/staging. Prepare makes them durable, reads them back and compares values and
// bytes with what was written, and names them in a receipt with size and hash. Publish links each one to
// its final name, which follows from job, lineage, epoch and a number, and then records
// the epoch in the manifest log _tidemark/log/<table>. Every step of Publish may be
// repeated: a final object with the recorded size and hash is done, one with others is an
// error, and so is an object that is neither staged nor final.
//
// Every entry of the log has the merged mark of its epoch, the hash of the entry before, and
// what is open: partitions with files that are not complete. When the mark has passed the end
// of a partition by CompleteAfter it gets a marker _SUCCESS with revision, watermark, files
// and rows; a file that comes later all the same gets it a new one, with the next revision.
// What an epoch completes is worked out once, in Prepare, and stands in the receipt.
//
// Names of staged objects do not end in .parquet and lie in a folder that begins with an
// underscore, so that neither a glob nor Hive, Spark or Trino sees them.
//
// Layout: <table>/dt=YYYY-MM-DD/hour=HH/part-<job>-<lineage>-<epoch>-<n>.parquet, in UTC,
// by a time column. Rows without that time go to dt=__null__, rows outside the years
// 1900 to 2299 to dt=__far__.
//
// The layout security_lake (lake.go) has other folders and no columns of ours. With it rows may
// be held (roll.go): those of several epochs go into one file. Prepare then stages them as
// they are, the receipt and every manifest entry name all that is held, and the epoch that
// ends the time writes the files from them. So they are durable from their own checkpoint on,
// and visible after a later one, still each of them once.
//
// Three columns are added in the usual layout: _tm_ver, which replaces _tm_revision and whose largest value
// is the valid one among rows of the same key and window; _tm_lineage and _tm_epoch.
//
// Files only grow: the current state is read. Where results can be withdrawn (sessions),
// rows have a column _tm_del, and a key and window whose valid row has it is gone:
//
//	SELECT * FROM (SELECT * FROM read_parquet('<dir>/<table>/**/*.parquet')
//	  QUALIFY row_number() OVER (PARTITION BY metadata.uid ORDER BY _tm_ver DESC) = 1)
//	WHERE NOT _tm_del
//
// With normalize to none a row is identified by key, window_start and window_end instead of
// metadata.uid. Rows with the old values of a change (_tm_kind -U) have a _tm_ver below that
// of the new values, so this passes them over.
//
// This is the only package that imports parquet-go.
package parquet
