package main

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark/tidemark/operators/traffic"
	"github.com/tidemark/tidemark/sinks/parquet"
)

// verdictLine is a line of the file of verdicts.
type verdictLine struct {
	UUID   string         `json:"uuid,omitempty"`
	Entity string         `json:"entity"`
	Start  time.Time      `json:"start"`
	End    *time.Time     `json:"end,omitempty"`
	Status traffic.Status `json:"status"`
	Manual bool           `json:"manual,omitempty"`
	By     string         `json:"by,omitempty"`
	Note   string         `json:"note,omitempty"`
	// At is how far the job's event time had come when it was said.
	At *time.Time `json:"at,omitempty"`
}

// parseVerdicts reads a file of verdicts, one JSON object a line.
func parseVerdicts(file string, b []byte) ([]traffic.Verdict, error) {
	out := []traffic.Verdict{}
	for i, line := range bytes.Split(b, []byte("\n")) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		v, err := parseVerdict(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
		out = append(out, v)
	}
	traffic.SortVerdicts(out)
	return out, nil
}

func parseVerdict(line []byte) (traffic.Verdict, error) {
	var l verdictLine
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return traffic.Verdict{}, fmt.Errorf("%w; want an object with entity, start, status and, as known, uuid, end, by, note, at, manual", err)
	}
	if err := l.check(); err != nil {
		return traffic.Verdict{}, err
	}
	h := fnv.New64a()
	_, _ = h.Write(line) // never fails
	v := traffic.Verdict{ID: h.Sum64(), UUID: l.UUID, Entity: l.Entity, Start: l.Start.UnixMicro(), Status: l.Status, Manual: l.Manual, By: l.By, Note: l.Note}
	if l.End != nil {
		v.End, v.HasEnd = l.End.UnixMicro(), true
	}
	if l.At != nil {
		v.At = l.At.UnixMicro()
	}
	return v, nil
}

// check says what is wrong with a verdict.
func (l *verdictLine) check() error {
	switch {
	case l.Entity == "":
		return errors.New("entity: missing: whose anomaly it is about")
	case l.Start.Year() < 1970 || l.Start.Year() > 2299:
		return errors.New("start: missing or out of range: when the anomaly starts, RFC 3339")
	case l.Status != traffic.Verified && l.Status != traffic.FalsePositive:
		return fmt.Errorf("status %q: want %s or %s", l.Status, traffic.Verified, traffic.FalsePositive)
	case l.Manual && l.Status != traffic.Verified:
		return fmt.Errorf("manual: an entry by hand is born %s", traffic.Verified)
	case l.End != nil && !l.End.After(l.Start):
		return errors.New("end: is not after start")
	}
	return nil
}

// readHistory reads what files know of series, all of which may be in any order.
func readHistory(files []string) ([]traffic.History, error) {
	type key struct{ entity, signal string }
	slots := map[key]map[int64]float64{}
	take := func(entity, signal string, start int64, v float64) bool {
		k := key{entity, signal}
		if slots[k] == nil {
			slots[k] = map[int64]float64{}
		}
		_, twice := slots[k][start]
		slots[k][start] = v
		return !twice
	}
	for _, name := range files {
		if err := readHistoryOf(name, take); err != nil {
			return nil, err
		}
	}
	var out []traffic.History
	for k, values := range slots {
		out = append(out, newHistory(k.entity, k.signal, values))
	}
	slices.SortFunc(out, func(a, b traffic.History) int {
		return cmp.Or(strings.Compare(a.Entity, b.Entity), strings.Compare(a.Signal, b.Signal))
	})
	return out, nil
}

// parseNames reads what entities are called from CSV with the columns entity and name.
func parseNames(file string, b []byte) (map[string]string, error) {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(b, []byte("\ufeff"))))
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(rows) == 0 || !slices.Equal(rows[0], []string{"entity", "name"}) {
		return nil, fmt.Errorf("%s:1: want the columns entity,name", file)
	}
	names := map[string]string{}
	for i, row := range rows[1:] {
		if _, twice := names[row[0]]; twice || row[0] == "" || row[1] == "" {
			return nil, fmt.Errorf("%s: row %d: entity %q, name %q: want both, and no entity twice", file, i+2, row[0], row[1])
		}
		names[row[0]] = row[1]
	}
	return names, nil
}

// takeSlot is given a value of a slot, and tells whether it is the first one.
type takeSlot = func(entity, signal string, start int64, v float64) bool

// readHistoryOf reads a CSV file, a Parquet file, all Parquet files of a folder, or what a server
// answers.
func readHistoryOf(name string, take takeSlot) error {
	switch {
	case isURL(name):
		return fetchHistory(name, maxReferenceBytes, take)
	case filepath.Ext(name) == ".csv":
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		return errors.Join(readHistoryFile(name, f, take), f.Close())
	}
	if _, err := os.Stat(name); err != nil {
		return err
	}
	return filepath.WalkDir(name, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".parquet" {
			return err
		}
		return readHistoryParquet(path, take)
	})
}

func isURL(name string) bool {
	return strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://")
}

// fetchTimeout bounds what a server may take for the history.
const fetchTimeout = time.Minute

// fetchHistory reads the CSV of at most so many bytes that a server answers, such as ClickHouse to
// a query.
func fetchHistory(address string, most int64, take takeSlot) error {
	client := http.Client{Timeout: fetchTimeout, CheckRedirect: sameHost}
	res, err := client.Get(address)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(res.Body, 500)) // the status says enough
		return fmt.Errorf("%s: %s: %s", address, res.Status, bytes.TrimSpace(why))
	}
	return readHistoryFile(address, &cappedReader{in: res.Body, most: most, left: most}, take)
}

// maxRedirects is how often a server may send us on.
const maxRedirects = 10

// sameHost follows no redirect to where the job file does not send us.
func sameHost(to *http.Request, via []*http.Request) error {
	from := via[0].URL
	switch {
	case to.URL.Host != from.Host || to.URL.Scheme != from.Scheme:
		return fmt.Errorf("it redirects to %s://%s: name that address if you trust it", to.URL.Scheme, to.URL.Host)
	case len(via) > maxRedirects:
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	}
	return nil
}

// cappedReader reads at most so many bytes; more are an error, so that nothing looks complete that
// is not.
type cappedReader struct {
	in         io.Reader
	most, left int64
}

// Read implements io.Reader.
func (r *cappedReader) Read(b []byte) (int, error) {
	n, err := r.in.Read(b)
	if r.left -= int64(n); r.left < 0 {
		return 0, fmt.Errorf("more than %d bytes, the most that are read: ask for the newest %d days", r.most, historySlots/96)
	}
	return n, err
}

// readHistoryParquet reads a file with the columns slot_start, entity, value and, where there are
// several, signal, as the table of slots of a job has them. What was revised later is left out.
func readHistoryParquet(path string, take takeSlot) error {
	return parquet.Read(path, []string{"slot_start", "entity", "signal", "value", "state"}, func(row []any) error {
		start, ok1 := row[0].(int64)
		entity, ok2 := row[1].(string)
		if !ok1 || !ok2 {
			return errors.New("slot_start, entity: missing: want columns slot_start, entity, value and, where there are several, signal")
		}
		if row[4] == string(traffic.SlotRevised) || row[3] == nil {
			return nil
		}
		v, isFloat := row[3].(float64)
		if n, isInt := row[3].(int64); isInt {
			v, isFloat = float64(n), true
		}
		signal, _ := row[2].(string)
		switch {
		case !isFloat || !(v >= 0) || math.IsInf(v, 0):
			return fmt.Errorf("value %v: want a number of 0 or more, or null where it is missing", row[3])
		case start%traffic.SlotTicks != 0:
			return fmt.Errorf("slot_start %s begins no slot", stamp(start))
		case !take(entity, signal, start, v):
			return fmt.Errorf("slot_start %s of %s is there twice; leave one out", stamp(start), entity)
		}
		return nil
	})
}

// historySlots is how much of a history is used: the detector looks at 29 days, and events may have
// begun before that.
const historySlots = 60 * 96

// newHistory puts the newest slots one behind the other.
func newHistory(entity, signal string, values map[int64]float64) traffic.History {
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	for start := range values {
		first, last = min(first, start), max(last, start)
	}
	first = max(first, last-(historySlots-1)*traffic.SlotTicks)
	h := traffic.History{Entity: entity, Signal: signal, Start: first}
	for start := first; start <= last; start += traffic.SlotTicks {
		v, ok := values[start]
		if !ok {
			v = traffic.Missing()
		}
		h.Values = append(h.Values, v)
	}
	return h
}

// csvNull is how ClickHouse writes null.
const csvNull = `\N`

// readHistoryFile gives every value of a file to take, which tells whether it is the first of its
// slot.
func readHistoryFile(name string, in io.Reader, take takeSlot) error {
	s := &seriesReader{name: name, csv: csv.NewReader(in)}
	s.csv.ReuseRecord = true
	head, err := s.csv.Read()
	if err != nil {
		return fmt.Errorf("%s: %w; the first line names the columns: ts,entity,signal,value", name, err)
	}
	head[0] = strings.TrimPrefix(head[0], "\ufeff")
	ts, entity, signal, value := slices.Index(head, seriesTime), slices.Index(head, "entity"), slices.Index(head, "signal"), slices.Index(head, "value")
	if ts < 0 || entity < 0 || value < 0 {
		return s.at(0, "columns %q: want ts, entity, value and, where there are several, signal", head)
	}
	for {
		row, err := s.csv.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return s.fault(err)
		}
		s.time, s.any = ts, false
		start, err := s.start(row[ts])
		if err != nil {
			return err
		}
		if row[value] == "" || row[value] == csvNull {
			continue
		}
		v, err := strconv.ParseFloat(row[value], 64)
		if err != nil || !(v >= 0) || math.IsInf(v, 0) {
			return s.at(value, "value %q: want a number of 0 or more, or nothing where it is missing", row[value])
		}
		of := ""
		if signal >= 0 && row[signal] != csvNull {
			of = strings.Clone(row[signal])
		}
		if !take(strings.Clone(row[entity]), of, start, v) {
			return s.at(ts, "ts %s of %s is there twice; leave one out", row[ts], row[entity])
		}
	}
}
