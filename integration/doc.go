// Package integration tests the real binary against the real peers: a Kafka broker, the
// ClickHouse engine, and data that was measured, not made up.
//
// Every test has the same form. `tidemark produce` sends a CSV file to the broker, delayed
// and out of order by a seed; `tidemark run` works on it; the engine reads the results
// back, from Parquet files and from its own tables, by the same SQL. What they must say is
// counted here, row by row, from the CSV file and from the order in which the topic holds
// the rows.
//
// The data lie in $TIDEMARK_SHARED, by default the folder shared beside the repository;
// without them the tests skip, and fail where CI is true. Peers are never skipped.
package integration
