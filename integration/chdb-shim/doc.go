// Command chdb-shim is a ClickHouse server for tests: the real engine (libchdb) behind
// the HTTP interface, as far as clickhouse-go and curl use it.
//
// It is a process of its own, so that a test can kill it with SIGKILL and start it again
// on the same folder, and so that an abort in the engine does not end the test.
//
// What it answers: /ping; a statement in the parameter query, in the body, or in both;
// INSERT ... FORMAT x with data in the body, streamed; default_format, database, settings
// and param_* as parameters; compress and decompress framing; errors with
// X-ClickHouse-Exception-Code. User and password are not looked at. The answer to a SELECT
// is held in memory.
//
// A second port takes faults, see faults.go. When the process has opened the folder it
// prints one line "ready" on standard output.
package main
