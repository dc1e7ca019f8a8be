package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"unsafe"

	"github.com/ebitengine/purego"
)

// library is libchdb: the ClickHouse engine behind a C interface. Pointers are memory of
// the engine's, never Go's.
type library struct {
	signalHandlers func(on int32)
	connect        func(argc int32, argv **byte) unsafe.Pointer
	closeConn      func(conn unsafe.Pointer)
	query          func(conn unsafe.Pointer, sql string, sqlLen uintptr, format string, formatLen uintptr) unsafe.Pointer
	destroyResult  func(result unsafe.Pointer)
	buffer         func(result unsafe.Pointer) unsafe.Pointer
	length         func(result unsafe.Pointer) uintptr
	resultError    func(result unsafe.Pointer) string
	rowsWritten    func(result unsafe.Pointer) uint64
	insert         func(conn unsafe.Pointer, sql string, sqlLen uintptr, format string, formatLen uintptr) unsafe.Pointer
	appendData     func(stream unsafe.Pointer, data *byte, n uintptr) int32
	done           func(stream unsafe.Pointer) unsafe.Pointer
	cancelInsert   func(stream unsafe.Pointer)
	insertError    func(stream unsafe.Pointer) string
	destroyInsert  func(stream unsafe.Pointer)
}

func loadLibrary(path string) (*library, error) {
	h, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, fmt.Errorf("engine library: %w", err)
	}
	l := &library{}
	for name, fn := range map[string]any{
		"chdb_set_signal_handlers_enabled": &l.signalHandlers,
		"chdb_connect":                     &l.connect,
		"chdb_close_conn":                  &l.closeConn,
		"chdb_query_n":                     &l.query,
		"chdb_destroy_query_result":        &l.destroyResult,
		"chdb_result_buffer":               &l.buffer,
		"chdb_result_length":               &l.length,
		"chdb_result_error":                &l.resultError,
		"chdb_result_rows_written":         &l.rowsWritten,
		"chdb_stream_insert_n":             &l.insert,
		"chdb_stream_append":               &l.appendData,
		"chdb_stream_done":                 &l.done,
		"chdb_stream_cancel_insert":        &l.cancelInsert,
		"chdb_stream_insert_error":         &l.insertError,
		"chdb_destroy_insert_stream":       &l.destroyInsert,
	} {
		purego.RegisterLibFunc(fn, h, name)
	}
	return l, nil
}

// engine is one storage folder with a pool of connections. A connection runs one statement
// at a time; a process can open one storage folder.
type engine struct {
	lib  *library
	pool chan *conn
	all  []*conn
}

// conn is one connection. Its settings are whatever the last user left: withSettings puts
// them back.
type conn struct {
	lib    *library
	handle unsafe.Pointer // to what closeConn wants
	c      unsafe.Pointer // to what statements want
}

// openEngine opens the folder with so many connections.
func openEngine(lib *library, dir string, conns int) (*engine, error) {
	lib.signalHandlers(0) // else the engine takes the signals of the Go runtime
	e := &engine{lib: lib, pool: make(chan *conn, conns)}
	for range conns {
		args := []*byte{cString("clickhouse"), cString("--path=" + dir)}
		h := lib.connect(int32(len(args)), &args[0])
		if h == nil {
			return nil, fmt.Errorf("storage %s: the engine opens no connection; another process may hold the folder", dir)
		}
		c := &conn{lib: lib, handle: h, c: *(*unsafe.Pointer)(h)}
		e.all = append(e.all, c)
		e.pool <- c
	}
	return e, nil
}

func cString(s string) *byte { return &append([]byte(s), 0)[0] }

// close waits for the statements that run and closes all connections.
func (e *engine) close() {
	for range e.all {
		<-e.pool
	}
	for _, c := range e.all {
		e.lib.closeConn(c.handle)
	}
}

// take waits for a free connection; give returns it.
func (e *engine) take() *conn  { return <-e.pool }
func (e *engine) give(c *conn) { e.pool <- c }

// result is the answer to a statement.
type result struct {
	data    []byte
	written uint64
}

// exception is an error of the engine.
type exception struct {
	code int
	text string
}

func (e *exception) Error() string { return e.text }

var exceptionCode = regexp.MustCompile(`Code: (\d+)\.`)

func newException(text string) *exception {
	e := &exception{code: 1002, text: text} // UNKNOWN_EXCEPTION
	if m := exceptionCode.FindStringSubmatch(text); m != nil {
		e.code, _ = strconv.Atoi(m[1]) // digits
	}
	return e
}

// query runs a statement and returns its whole answer.
func (c *conn) query(sql, format string) (result, error) {
	return c.take(c.lib.query(c.c, sql, uintptr(len(sql)), format, uintptr(len(format))))
}

// take copies and frees a result of the engine's.
func (c *conn) take(r unsafe.Pointer) (result, error) {
	if r == nil {
		return result{}, newException("Code: 1002. DB::Exception: the engine gave no result")
	}
	defer c.lib.destroyResult(r)
	if text := c.lib.resultError(r); text != "" {
		return result{}, newException(text)
	}
	out := result{written: c.lib.rowsWritten(r)}
	if n := c.lib.length(r); n > 0 {
		out.data = append(out.data, unsafe.Slice((*byte)(c.lib.buffer(r)), n)...)
	}
	return out, nil
}

// chunkBytes is the size of the pieces in which the data of an INSERT goes to the engine.
const chunkBytes = 1 << 20

// insert runs an INSERT whose data comes from a reader. When reading fails nothing of the
// last block is written.
func (c *conn) insert(sql, format string, data io.Reader) (result, error) {
	s := c.lib.insert(c.c, sql, uintptr(len(sql)), format, uintptr(len(format)))
	defer c.lib.destroyInsert(s)
	if text := c.lib.insertError(s); text != "" {
		return result{}, newException(text)
	}
	buf := make([]byte, chunkBytes)
	for ended := false; !ended; {
		n, err := fill(data, buf)
		if ended = errors.Is(err, io.EOF); err != nil && !ended {
			c.lib.cancelInsert(s)
			return result{}, fmt.Errorf("data of the INSERT: %w", err)
		}
		if n > 0 && c.lib.appendData(s, &buf[0], uintptr(n)) != 0 {
			break // done tells why
		}
	}
	out, err := c.take(c.lib.done(s))
	if err == nil {
		if text := c.lib.insertError(s); text != "" {
			err = newException(text)
		}
	}
	return out, err
}

// fill reads until buf is full or the data ends. io.ErrUnexpectedEOF is an error here: the
// sender went away.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}
