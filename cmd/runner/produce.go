package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/kafka"
	source "github.com/tidemark/tidemark/sources/kafka"
)

// produceFlags are the flags of produce.
type produceFlags struct {
	brokers, topic, feed, csv, jsonl   string
	lines                              string
	key, timeColumn, layout, zone, fix string
	partitions, devices, limit         int
	rate                               float64
	period                             time.Duration
	start                              string
	seed                               uint64
	how                                disorder
	compression                        string
	conn                               source.Connection
	password                           string // where it is
}

// cmdProduce sends telemetry to a topic.
func cmdProduce(ctx context.Context, args []string, out streams) error {
	fs := newFlags("produce", "tidemark produce --brokers 127.0.0.1:9092 --topic ble.detections --feed ble --events 100000 --late 0.05",
		"sends generated telemetry, or the rows of a CSV or JSONL file, in the order in which disorder makes them arrive; the same seed gives the same records")
	var p produceFlags
	fs.StringVar(&p.brokers, "brokers", "127.0.0.1:9092", "brokers, comma separated, `host:port`")
	p.conn = source.DefaultConnection()
	fs.BoolVar(&p.conn.TLS.Enabled, "tls", false, "connect with TLS, version 1.2 or later")
	fs.StringVar(&p.conn.TLS.CAFile, "ca-file", "", "PEM `file` of the certificates to trust, instead of the system's")
	fs.StringVar(&p.conn.SASL.Mechanism, "sasl-mechanism", "", "log in by `mechanism`: plain, scram-sha-256, scram-sha-512")
	fs.StringVar(&p.conn.SASL.User, "sasl-user", "", "as this `user`")
	fs.StringVar(&p.password, "sasl-password", "", "where the password is: `env:NAME` or file:PATH")
	fs.StringVar(&p.topic, "topic", "", "`topic`, made when it is missing")
	fs.IntVar(&p.partitions, "partitions", 4, "partitions of a topic that is made")
	fs.StringVar(&p.feed, "feed", "", "generate this `feed`: ble, pdu, traffic")
	fs.StringVar(&p.csv, "csv", "", "send the rows of a CSV `file` with a header; each becomes a JSON object by column")
	fs.StringVar(&p.jsonl, "jsonl", "", "send the lines of a `file` of JSON objects")
	fs.StringVar(&p.lines, "lines", "", "send every line of a `file` as it is, without its line end, one behind the other")
	fs.StringVar(&p.key, "key", "", "`column` that is the record's key (csv, jsonl)")
	fs.StringVar(&p.timeColumn, "time", "", "`column` with the event time (csv, jsonl): Unix ms, or text in --layout; it is sent as ts, Unix ms, beside the columns")
	fs.StringVar(&p.layout, "layout", "", "Go time `layout` of that column, for example \"2006-01-02 15:04:05\"")
	fs.StringVar(&p.zone, "zone", "UTC", "time `zone` of that column")
	fs.StringVar(&p.fix, "fix", "", "`midnight-end`: a row at 00:00 closes the day before: move it to the next day")
	fs.IntVar(&p.limit, "events", 0, "stop after this many events, 0 for all of a file or for ever")
	fs.Float64Var(&p.rate, "rate", 0, "events per second, 0 for as fast as it goes")
	fs.IntVar(&p.devices, "devices", 1000, "devices of a generated feed")
	fs.DurationVar(&p.period, "period", 10*time.Second, "how often each reports")
	fs.StringVar(&p.start, "start", "", "event `time` of the first generated event, RFC 3339; default now")
	fs.Uint64Var(&p.seed, "seed", 1, "seed of everything random")
	fs.DurationVar(&p.how.Within, "disorder", 0, "events arrive late by up to this much")
	fs.Float64Var(&p.how.Late, "late", 0, "share of events that arrive later than that")
	fs.DurationVar(&p.how.LateBy, "late-by", 5*time.Minute, "by up to how much later")
	fs.Float64Var(&p.how.Duplicate, "duplicates", 0, "share of events sent twice")
	fs.Float64Var(&p.how.Malformed, "malformed", 0, "share of events cut short")
	fs.Float64Var(&p.how.Future, "future", 0, "share of generated events with a clock a day ahead")
	fs.StringVar(&p.compression, "compression", "lz4", "none, gzip, snappy, lz4, zstd")
	if err := fs.parse(args); err != nil {
		return err
	}
	if err := p.check(); err != nil {
		return err
	}
	if err := p.connection(); err != nil {
		return err
	}
	next, err := p.events()
	if err != nil {
		return err
	}
	if err := reach(ctx, p.conn); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	return p.send(ctx, p.conn, newTelemetry(p.seed, p.how, next), out)
}

func (p *produceFlags) check() error {
	kinds := 0
	for _, s := range []string{p.feed, p.csv, p.jsonl, p.lines} {
		if s != "" {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return &usageError{"produce: give one of --feed, --csv, --jsonl, --lines"}
	case p.topic == "":
		return &usageError{"produce: --topic is missing"}
	case p.lines != "" && (p.timeColumn != "" || p.key != "" || p.how != disorder{LateBy: p.how.LateBy}):
		return &usageError{"produce: lines are not looked into, so that --time, --key and disorder have nothing to go by"}
	case p.feed == "" && p.lines == "" && p.timeColumn == "":
		return &usageError{"produce: --time names no column: without event time there is no order of arrival"}
	case p.fix != "" && p.fix != "midnight-end":
		return &usageError{fmt.Sprintf("produce: --fix %q: want midnight-end", p.fix)}
	case p.fix != "" && p.layout == "":
		return &usageError{"produce: --fix needs --layout: a number of ms has no day to move to"}
	case p.feed == "" && p.how.Future != 0:
		return &usageError{"produce: --future is for a generated feed; the times of a file are sent as they are"}
	}
	for _, s := range []struct {
		name  string
		share float64
	}{{"late", p.how.Late}, {"duplicates", p.how.Duplicate}, {"malformed", p.how.Malformed}, {"future", p.how.Future}} {
		if !(s.share >= 0 && s.share <= 1) { // NaN is neither
			return &usageError{fmt.Sprintf("produce: --%s %v: want a share from 0 to 1", s.name, s.share)}
		}
	}
	if p.devices < 1 || p.devices > maxDevices {
		return &usageError{fmt.Sprintf("produce: --devices %d: want 1 to %d", p.devices, maxDevices)}
	}
	if p.period <= 0 || p.how.Within < 0 || p.how.LateBy < 0 || !(p.rate >= 0) || p.partitions < 1 || p.limit < 0 {
		return &usageError{"produce: --period and --partitions must be above 0, --events, --rate, --disorder and --late-by not negative"}
	}
	cfg := kafka.DefaultConfig()
	cfg.Brokers, cfg.Compression = strings.Split(p.brokers, ","), p.compression
	if err := cfg.Validate(); err != nil {
		return &usageError{"produce: --" + err.Error()}
	}
	return nil
}

// connection completes the connection. The password itself is no argument: others on the machine
// see those.
func (p *produceFlags) connection() error {
	p.conn.Brokers = strings.Split(p.brokers, ",")
	if p.password != "" {
		secret, err := resolveSecret(&yaml.Node{Kind: yaml.ScalarNode, Value: "${" + p.password + "}"})
		if err != nil {
			return &usageError{"produce: --sasl-password: want env:NAME or file:PATH, readable: " + err.Error()}
		}
		p.conn.SASL.Password = pipeline.Secret(secret)
	}
	if err := p.conn.Validate(); err != nil {
		return &usageError{"produce: --" + err.Error()}
	}
	return nil
}

const (
	maxDevices   = 10_000_000
	maxFileBytes = 1 << 30 // a file is read whole, so that one with a mistake sends nothing
)

// events returns the events in the order of the feed or the file, whatever their times.
func (p *produceFlags) events() (func() (message, bool), error) {
	if p.feed != "" {
		start := time.Now().UTC()
		if p.start != "" {
			at, err := time.Parse(time.RFC3339, p.start)
			if err != nil {
				return nil, &usageError{fmt.Sprintf("produce: --start %q: want RFC 3339", p.start)}
			}
			start = at
		}
		g, err := newGenerator(p.feed, p.seed, start, p.devices, p.period, p.how)
		if err != nil {
			return nil, &usageError{"produce: " + err.Error()}
		}
		n := 0
		return func() (message, bool) {
			if n++; p.limit > 0 && n > p.limit {
				return message{}, false
			}
			return g.next()
		}, nil
	}
	ms, err := p.file()
	if err != nil {
		return nil, err
	}
	if p.limit > 0 && len(ms) > p.limit {
		ms = ms[:p.limit]
	}
	i := 0
	return func() (message, bool) {
		if i == len(ms) {
			return message{}, false
		}
		i++
		return ms[i-1], true
	}, nil
}

func (p *produceFlags) file() ([]message, error) {
	zone, err := time.LoadLocation(p.zone)
	if err != nil {
		return nil, &usageError{fmt.Sprintf("produce: --zone %q: %v", p.zone, err)}
	}
	name := p.csv + p.jsonl + p.lines
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("produce: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("produce: %w", err)
	}
	if info.Size() > maxFileBytes {
		return nil, fmt.Errorf("produce: %s has %d bytes, at most %d are read at once: split it", name, info.Size(), maxFileBytes)
	}
	if p.lines != "" {
		return lineMessages(f)
	}
	rows := jsonlRows(f)
	if p.csv != "" {
		rows = csvRows(f)
	}
	var out []message
	for line := 1; ; line++ {
		row, err := rows()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: row %d: %w", name, line, err)
		}
		m, err := p.message(row, zone)
		if err != nil {
			return nil, fmt.Errorf("%s: row %d: %w", name, line, err)
		}
		out = append(out, m)
	}
}

// row is a JSON object whose members keep their order.
type row []member

type member struct {
	name  string
	value json.RawMessage
}

func (r row) text(name string) (string, bool) {
	i := slices.IndexFunc(r, func(m member) bool { return m.name == name })
	if i < 0 {
		return "", false
	}
	var s string
	if json.Unmarshal(r[i].value, &s) == nil {
		return s, true
	}
	return string(r[i].value), true
}

func (p *produceFlags) message(r row, zone *time.Location) (message, error) {
	text, ok := r.text(p.timeColumn)
	if !ok {
		return message{}, fmt.Errorf("no column %q", p.timeColumn)
	}
	at, err := p.parseTime(text, zone)
	if err != nil {
		return message{}, err
	}
	m := message{Event: at}
	if p.key != "" {
		key, ok := r.text(p.key)
		if !ok {
			return message{}, fmt.Errorf("no column %q", p.key)
		}
		m.Key = []byte(key)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"ts":%d`, at.UnixMilli())
	for _, c := range r {
		if c.name == "ts" {
			if c.name != p.timeColumn {
				return message{}, errors.New("column ts: the event time is sent under that name, and --time names another column: rename it")
			}
			continue
		}
		name, err := json.Marshal(c.name)
		if err != nil {
			return message{}, err
		}
		b.WriteByte(',')
		b.Write(name)
		b.WriteByte(':')
		b.Write(c.value)
	}
	b.WriteByte('}')
	m.Value = b.Bytes()
	return m, nil
}

func (p *produceFlags) parseTime(text string, zone *time.Location) (time.Time, error) {
	if p.layout == "" {
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("column %s: %q is no number of ms; --layout says how to read it", p.timeColumn, text)
		}
		return time.UnixMilli(ms).UTC(), nil
	}
	at, err := time.ParseInLocation(p.layout, text, zone)
	if err != nil {
		return time.Time{}, fmt.Errorf("column %s: %w", p.timeColumn, err)
	}
	if p.fix == "midnight-end" && at.Hour() == 0 && at.Minute() == 0 {
		at = at.AddDate(0, 0, 1)
	}
	return at.UTC(), nil
}

func csvRows(r io.Reader) func() (row, error) {
	c := csv.NewReader(r)
	var header []string
	return func() (row, error) {
		if header == nil {
			h, err := c.Read()
			if err != nil {
				return nil, err
			}
			header = slices.Clone(h)
			header[0] = strings.TrimPrefix(header[0], "\ufeff") // byte order mark
			if name := twice(header); name != "" {
				return nil, fmt.Errorf("column %q is there twice", name)
			}
		}
		rec, err := c.Read()
		if err != nil {
			return nil, err
		}
		var out row
		for i, v := range rec {
			if !utf8.ValidString(v) {
				return nil, fmt.Errorf("column %q: %q is not UTF-8", header[i], v)
			}
			out = append(out, member{header[i], jsonValue(v)})
		}
		return out, nil
	}
}

// twice returns a name that is there twice, "" for none.
func twice(names []string) string {
	seen := map[string]bool{}
	for _, name := range names {
		if seen[name] {
			return name
		}
		seen[name] = true
	}
	return ""
}

// jsonValue makes a number of what is one in JSON, null of nothing, text of the rest.
func jsonValue(v string) json.RawMessage {
	if v == "" {
		return json.RawMessage("null")
	}
	if _, err := strconv.ParseFloat(v, 64); err == nil && json.Valid([]byte(v)) {
		return json.RawMessage(v)
	}
	b, err := json.Marshal(v)
	if err != nil { // a string always can
		panic(err)
	}
	return b
}

// maxLineBytes bounds a line of a file.
const maxLineBytes = 16 << 20

// lineMessages makes a message of every line that is not blank. All are of now: what their
// time is nobody has looked.
func lineMessages(r io.Reader) ([]message, error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLineBytes)
	now := time.Now()
	var out []message
	for s.Scan() {
		if len(bytes.TrimSpace(s.Bytes())) > 0 {
			out = append(out, message{Event: now, Value: bytes.Clone(s.Bytes())})
		}
	}
	return out, s.Err()
}

func jsonlRows(r io.Reader) func() (row, error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLineBytes)
	return func() (row, error) {
		for s.Scan() {
			if len(bytes.TrimSpace(s.Bytes())) == 0 {
				continue
			}
			return objectRow(s.Bytes())
		}
		if s.Err() != nil {
			return nil, s.Err()
		}
		return nil, io.EOF
	}
}

func objectRow(b []byte) (row, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') || !json.Valid(b) {
		return nil, fmt.Errorf("want a JSON object: %q", short(string(b)))
	}
	var out row
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		out = append(out, member{fmt.Sprint(name), v})
	}
	return out, nil
}

// reach wants one broker to take a connection: what the protocol's library says later, of
// a cluster that it cannot reach, names no address.
func reach(ctx context.Context, conn source.Connection) error {
	d := net.Dialer{Timeout: conn.DialTimeout}
	var last error
	for _, b := range conn.Brokers {
		c, err := d.DialContext(ctx, "tcp", b)
		if err == nil {
			return c.Close()
		}
		last = err
	}
	return conn.Explain(last)
}

// sendBatch bounds the records of one request per partition and the time they wait.
const (
	sendBatch = 4000
	sendEvery = 20 * time.Millisecond
)

func (p *produceFlags) send(ctx context.Context, conn source.Connection, t *telemetry, out streams) error {
	tr, err := conn.Transport()
	if err != nil {
		return err
	}
	cfg := kafka.DefaultConfig()
	cfg.Brokers, cfg.Compression = conn.Brokers, p.compression
	prod, err := kafka.New(cfg, tr)
	if err != nil {
		return err
	}
	defer prod.Close()
	if err := prod.CreateTopic(ctx, p.topic, p.partitions, nil); err != nil && !errors.Is(err, kafka.ErrPartitions) {
		return fmt.Errorf("produce: %w", err)
	}
	// What was begun is sent: a record that is counted below is in the topic.
	sendCtx := context.WithoutCancel(ctx)
	began := time.Now()
	n := 0
	var batch []kafka.Record
	for {
		m, ok := t.Next()
		if ok {
			batch = append(batch, kafka.Record{Key: m.Key, Value: m.Value, Time: m.Arrive, Partition: -1})
			n++
		}
		var wait time.Duration
		if p.rate > 0 {
			wait = time.Until(began.Add(time.Duration(float64(n) / p.rate * float64(time.Second))))
		}
		last := !ok || ctx.Err() != nil
		if last || len(batch) >= sendBatch || wait > sendEvery {
			if err := prod.Produce(sendCtx, p.topic, batch); err != nil {
				return fmt.Errorf("produce: %w", err)
			}
			batch = batch[:0]
		}
		if last {
			break
		}
		if wait > sendEvery {
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
	}
	took := time.Since(began)
	_, err = fmt.Fprintf(out.stdout, "%d records to %s in %v (%.0f/s)\n", n, p.topic, took.Round(time.Millisecond), float64(n)/took.Seconds())
	return err
}
