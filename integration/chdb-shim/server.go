package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"
)

// server is the HTTP interface.
type server struct {
	engine  *engine
	faults  *faults
	version string
}

func newServer(e *engine) (*server, error) {
	c := e.take()
	defer e.give(c)
	r, err := c.query("SELECT version()", "TSVRaw")
	if err != nil {
		return nil, fmt.Errorf("version of the engine: %w", err)
	}
	return &server{engine: e, faults: newFaults(), version: strings.TrimSpace(string(r.data))}, nil
}

// hello is the driver's first statement. Its answer decides in which revision of the
// Native format the driver reads all others: the engine writes revision 0.
const hello = "SELECT displayName(), version(), revision(), timezone()"

// request is one statement with what the parameters said.
type request struct {
	sql      string
	format   string // of the answer, when the statement does not say
	data     string // format of the data in body; "" for a statement without data
	body     io.Reader
	database string
	settings [][2]string
	compress bool // the answer
	revision int  // that the client reads before it knows better
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/ping" {
		fmt.Fprintln(w, "Ok.")
		return
	}
	req, err := parseRequest(r)
	if err != nil {
		s.fail(w, newException("Code: 62. DB::Exception: "+err.Error()))
		return
	}
	if strings.TrimSpace(req.sql) == hello {
		s.answer(w, req, result{data: helloBlock(s.version, req.revision)})
		return
	}
	kind, cleared := s.faults.hit(req.sql)
	switch kind {
	case dropBefore:
		drop(w)
		return
	case code252:
		s.fail(w, newException("Code: 252. DB::Exception: Too many parts (300). Merges are processing significantly slower than inserts. (TOO_MANY_PARTS)"))
		return
	case stall:
		select {
		case <-cleared:
		case <-r.Context().Done():
		}
		drop(w)
		return
	case closeMidBody:
		req.body = io.MultiReader(io.LimitReader(req.body, midBody), cut{})
	case runLate:
		if err := outlive(req, r); err != nil {
			s.fail(w, err)
			return
		}
	case killBefore:
		die()
	}
	res, err := s.run(req)
	switch kind {
	case killAfter:
		die()
	case dropAfter, closeMidBody, runLate:
		drop(w)
		return
	case http500After:
		http.Error(w, "upstream connect error or disconnect", http.StatusInternalServerError)
		return
	case stallAfter:
		select {
		case <-cleared:
		case <-r.Context().Done():
		}
		drop(w)
		return
	}
	if err != nil {
		s.fail(w, err)
		return
	}
	s.answer(w, req, res)
}

// drop cuts the connection without an answer.
func drop(http.ResponseWriter) { panic(http.ErrAbortHandler) }

// midBody is where the data of a statement end that is cut in the middle: within the first
// block of 200 rows.
const midBody = 1000

// cut is the rest of the data of a sender that has gone.
type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// lateBy is by how much a statement outlives its sender: more than it takes to look for its
// rows and to send them again.
const lateBy = 500 * time.Millisecond

// outlive takes the whole statement in and waits until its sender has been gone for lateBy.
func outlive(req *request, r *http.Request) error {
	data, err := io.ReadAll(req.body)
	if err != nil && !errors.Is(err, io.EOF) { // which the reader of compressed data wraps
		return fmt.Errorf("data of the statement: %w", err)
	}
	req.body = bytes.NewReader(data)
	<-r.Context().Done()
	time.Sleep(lateBy)
	return nil
}

// die ends the process as SIGKILL does: nothing is flushed, nobody is told.
func die() {
	panic(syscall.Kill(os.Getpid(), syscall.SIGKILL)) // it does not return
}

func (s *server) fail(w http.ResponseWriter, err error) {
	var ex *exception
	if !errors.As(err, &ex) { // the data of an INSERT could not be read
		ex = newException("Code: 210. DB::NetException: " + err.Error())
	}
	w.Header().Set("X-ClickHouse-Exception-Code", strconv.Itoa(ex.code))
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.WriteHeader(http.StatusInternalServerError)
	fmt.Fprintln(w, strings.TrimSpace(ex.text)) //nolint:errcheck // the client is gone
}

func (s *server) answer(w http.ResponseWriter, req *request, res result) {
	w.Header().Set("X-ClickHouse-Server-Display-Name", "chdb-shim")
	w.Header().Set("X-ClickHouse-Summary", fmt.Sprintf(`{"written_rows":"%d"}`, res.written))
	data := res.data
	if req.compress && len(data) > 0 {
		data = framed(data)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Write(data) //nolint:errcheck // the client is gone
}

// frameBytes is how much data goes into one compressed frame.
const frameBytes = 1 << 20

func framed(data []byte) []byte {
	z := compress.NewWriter(compress.LevelZero, compress.LZ4)
	var out []byte
	for piece := range slices.Chunk(data, frameBytes) {
		if err := z.Compress(piece); err != nil {
			panic(err) // LZ4 into memory of its own cannot fail
		}
		out = append(out, z.Data...)
	}
	return out
}

// reserved are parameters that are no settings.
var reserved = []string{
	"query", "query_id", "database", "default_format", "client_protocol_version", "quota_key", "compress", "decompress",
	"session_id", "session_timeout", "session_check", "user", "password", "wait_end_of_query", "role", "http_headers_progress_interval_ms",
}

var (
	// insertWithData is an INSERT whose data comes in the body.
	insertWithData = regexp.MustCompile(`(?is)^\s*INSERT\s+INTO\s.*\bFORMAT\s+(\w+)\s*$`)
	formatClause   = regexp.MustCompile(`(?is)\s+FORMAT\s+\w+\s*$`)
	settingName    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

func parseRequest(r *http.Request) (*request, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("URL parameters: %w", err)
	}
	req := &request{
		sql: q.Get("query"), format: "TabSeparated", body: r.Body, database: q.Get("database"),
		compress: q.Get("compress") == "1",
	}
	if f := q.Get("default_format"); f != "" {
		req.format = f
	}
	req.revision, _ = strconv.Atoi(q.Get("client_protocol_version")) // absent: 0
	for _, k := range sortedKeys(q) {
		if slices.Contains(reserved, k) {
			continue
		}
		if !settingName.MatchString(k) {
			return nil, fmt.Errorf("URL parameter %q is no setting", k)
		}
		req.settings = append(req.settings, [2]string{k, q.Get(k)})
	}
	if q.Get("decompress") == "1" {
		req.body = compress.NewReader(r.Body)
	}
	if m := insertWithData.FindStringSubmatch(req.sql); m != nil {
		req.data = m[1]
		req.sql = formatClause.ReplaceAllString(req.sql, "")
		return req, nil
	}
	rest, err := io.ReadAll(req.body)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("body: %w", err)
	}
	if len(rest) > 0 && req.sql != "" {
		req.sql += "\n"
	}
	req.sql += string(rest)
	if strings.TrimSpace(req.sql) == "" {
		return nil, errors.New("empty query")
	}
	return req, nil
}

func sortedKeys(q url.Values) []string {
	var keys []string
	for k := range q {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// run runs a statement with its settings on one connection, and puts them back.
func (s *server) run(req *request) (res result, err error) {
	c := s.engine.take()
	defer s.engine.give(c)
	if req.database != "" && req.database != "default" {
		defer func() { err = errors.Join(err, c.exec("USE default")) }()
		if err := c.exec("USE " + quotedName(req.database)); err != nil {
			return result{}, err
		}
	}
	for _, set := range req.settings {
		if !strings.HasPrefix(set[0], "param_") { // parameters have no default and stay
			defer func() { err = errors.Join(err, c.exec("SET "+set[0]+" = DEFAULT")) }()
		}
		if err := c.exec("SET " + set[0] + " = " + quotedText(set[1])); err != nil {
			return result{}, err
		}
	}
	if req.data != "" {
		return c.insert(req.sql, req.data, req.body)
	}
	return c.query(req.sql, req.format)
}

func (c *conn) exec(sql string) error {
	_, err := c.query(sql, "Null")
	return err
}

func quotedName(s string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(s) + "`"
}

func quotedText(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}

// customSerialization is the first revision with a byte for it behind a column's type.
const customSerialization = 54454

// helloBlock answers hello in the revision that the client has announced: revision() is 0.
func helloBlock(version string, revision int) []byte {
	var b proto.Buffer
	if revision > 0 { // block info
		b.PutUVarInt(1)
		b.PutBool(false)
		b.PutUVarInt(2)
		b.PutInt32(-1)
		b.PutUVarInt(0)
	}
	b.PutUVarInt(4) // columns
	b.PutUVarInt(1) // rows
	column := func(name, typ string, value func()) {
		b.PutString(name)
		b.PutString(typ)
		if revision >= customSerialization {
			b.PutBool(false)
		}
		value()
	}
	column("displayName()", "String", func() { b.PutString("chdb-shim") })
	column("version()", "String", func() { b.PutString(version) })
	column("revision()", "UInt32", func() { b.PutUInt32(0) })
	column("timezone()", "String", func() { b.PutString("UTC") })
	return bytes.Clone(b.Buf)
}
