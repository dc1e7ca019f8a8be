package main

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidemark/tidemark/operators/traffic"
)

// radarView is what the API knows of the anomalies of a job: what the job has shown last, and what
// people have said since.
type radarView struct {
	mu      sync.Mutex // guards below
	mark    int64      // event time of the job
	records []traffic.Record
	said    map[string]saidStatus // by uuid: verdicts that the job has not taken yet
	names   map[string]string     // of entities
}

// saidStatus is what somebody has said, at an event time of the job.
type saidStatus struct {
	status traffic.Status
	at     int64
}

// saidTicks is for how long, in event time, what was said is shown though the job does not take it:
// the line may be out of the file again.
const saidTicks = int64(time.Hour / time.Microsecond)

func newRadarView() *radarView { return &radarView{said: map[string]saidStatus{}} }

// show takes how far the job is and, unless they are nil, its anomalies.
func (v *radarView) show(mark int64, records []traffic.Record) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mark = max(v.mark, mark)
	maps.DeleteFunc(v.said, func(_ string, s saidStatus) bool { return v.mark-s.at > saidTicks })
	if records == nil {
		return
	}
	v.records = records
	for i := range records {
		if r := &records[i]; r.Person && r.Status == v.said[r.UUID].status {
			delete(v.said, r.UUID)
		}
	}
}

// now returns how far the job is, 0 when nobody knows.
func (v *radarView) now() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mark
}

// say shows what somebody has said until the job does.
func (v *radarView) say(uuid string, s traffic.Status) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.said[uuid] = saidStatus{s, v.mark}
}

// name sets what entities are called.
func (v *radarView) name(names map[string]string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.names = names
}

// called returns what an entity is called, itself if nobody has said.
func (v *radarView) called(entity string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return cmp.Or(v.names[entity], entity)
}

// list returns the anomalies that are for people who look for them, newest start first.
func (v *radarView) list() []traffic.Record {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []traffic.Record
	for _, r := range v.records {
		if s, ok := v.said[r.UUID]; ok {
			r.Status = s.status
			if s.status == traffic.Verified { // what was held is published by it
				r.Held, r.Published = false, true
			}
		}
		if r.Listed() {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b traffic.Record) int {
		return cmp.Or(cmp.Compare(b.Start, a.Start), strings.Compare(a.Entity, b.Entity))
	})
	return out
}

// find returns an anomaly, listed or not, that has not been withdrawn.
func (v *radarView) find(uuid string) (traffic.Record, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range v.records {
		if r.UUID == uuid && !r.Withdrawn {
			return r, true
		}
	}
	return traffic.Record{}, false
}

// radarAPI serves the anomalies in the shape that clients of radar APIs know.
type radarAPI struct {
	view     *radarView
	mux      *http.ServeMux
	writing  sync.Mutex // held while a line is appended to the file
	verdicts string     // file; "" for none
}

func newRadarAPI(view *radarView, verdicts string) *radarAPI {
	a := &radarAPI{view: view, mux: http.NewServeMux(), verdicts: verdicts}
	a.mux.HandleFunc("GET /radar/traffic_anomalies", a.anomalies)
	a.mux.HandleFunc("GET /radar/traffic_anomalies/locations", a.locations)
	a.mux.HandleFunc("POST /radar/traffic_anomalies/verdicts", a.judge)
	return a
}

// ServeHTTP implements http.Handler.
func (a *radarAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// anomalyJSON is an anomaly in an answer.
type anomalyJSON struct {
	UUID                 string     `json:"uuid"`
	Type                 string     `json:"type"`
	Status               string     `json:"status"`
	StartDate            string     `json:"startDate"`
	EndDate              string     `json:"endDate,omitempty"`
	ASNDetails           *asnJSON   `json:"asnDetails,omitempty"`
	LocationDetails      *placeJSON `json:"locationDetails,omitempty"`
	VisibleInDataSources []string   `json:"visibleInDataSources,omitempty"`
}

type asnJSON struct {
	ASN  string `json:"asn"`
	Name string `json:"name"`
}

type placeJSON struct {
	Code string `json:"code"`
	Name string `json:"name"`
}

func newAnomalyJSON(r traffic.Record, name string) anomalyJSON {
	a := anomalyJSON{UUID: r.UUID, Type: r.Type(), Status: string(r.Status), StartDate: stamp(r.Start), VisibleInDataSources: r.Signals}
	if r.HasEnd {
		a.EndDate = stamp(r.End)
	}
	if a.Type == "AS" {
		a.ASNDetails = &asnJSON{strings.TrimPrefix(r.Entity, "AS"), name}
	} else {
		a.LocationDetails = &placeJSON{r.Entity, name}
	}
	return a
}

// Limits of a query.
const (
	radarLimit = 20   // anomalies in an answer, when the query says nothing
	radarMost  = 1000 // at most
)

// radarQuery says which anomalies are wanted.
type radarQuery struct {
	entity        string
	status        traffic.Status
	from, to      int64 // of the start, inclusive; to MaxInt64
	limit, offset int
	csv           bool
}

var dateRange = regexp.MustCompile(`^([1-9][0-9]{0,2})([dw])$`)

func parseRadarQuery(q url.Values, now time.Time) (radarQuery, error) {
	out := radarQuery{from: math.MinInt64, to: math.MaxInt64, limit: radarLimit}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if n := len(q[name]); n > 1 {
			return out, fmt.Errorf("%s: is there %d times; give one", name, n)
		}
		value := q.Get(name)
		var err error
		switch name {
		case "asn":
			n, e := strconv.ParseUint(strings.TrimPrefix(value, "AS"), 10, 32)
			if e != nil {
				err = fmt.Errorf("want a number such as 64500")
			}
			out.entity = fmt.Sprintf("AS%d", n)
		case "location":
			out.entity = value
		case "status":
			if out.status = traffic.Status(value); out.status != traffic.Verified && out.status != traffic.Unverified {
				err = fmt.Errorf("want VERIFIED or UNVERIFIED")
			}
		case "dateRange":
			m := dateRange.FindStringSubmatch(value)
			if m == nil {
				err = errors.New("want a number of days or weeks, such as 7d or 12w")
				break
			}
			n, _ := strconv.Atoi(m[1])
			if m[2] == "w" {
				n *= 7
			}
			out.from = max(out.from, now.AddDate(0, 0, -n).UnixMicro())
		case "dateStart":
			var t time.Time
			t, err = time.Parse(time.RFC3339, value)
			out.from = max(out.from, t.UnixMicro())
		case "dateEnd":
			var t time.Time
			t, err = time.Parse(time.RFC3339, value)
			out.to = t.UnixMicro()
		case "limit":
			out.limit, err = intIn(value, 1, radarMost)
		case "offset":
			out.offset, err = intIn(value, 0, math.MaxInt32)
		case "format":
			switch strings.ToUpper(value) {
			case "JSON":
			case "CSV":
				out.csv = true
			default:
				err = errors.New("want JSON or CSV")
			}
		default:
			return out, fmt.Errorf("%s: unknown; known are asn, location, status, dateRange, dateStart, dateEnd, limit, offset, format", name)
		}
		if err != nil {
			return out, fmt.Errorf("%s %q: %w", name, value, err)
		}
	}
	switch {
	case q.Has("asn") && q.Has("location"):
		return out, errors.New("asn and location: an anomaly has one of the two; give one")
	case q.Has("dateRange") && (q.Has("dateStart") || q.Has("dateEnd")):
		return out, errors.New("dateRange: with dateStart or dateEnd; give one or the other")
	case out.from > out.to:
		return out, errors.New("dateStart: is after dateEnd")
	}
	return out, nil
}

func intIn(text string, low, high int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("want a number from %d to %d", low, high)
	}
	return n, nil
}

// matching returns the anomalies that a query wants, without its limit.
func (q radarQuery) matching(all []traffic.Record) []traffic.Record {
	return slices.DeleteFunc(all, func(r traffic.Record) bool {
		return q.entity != "" && r.Entity != q.entity || q.status != "" && r.Status != q.status || r.Start < q.from || r.Start > q.to
	})
}

func (a *radarAPI) anomalies(w http.ResponseWriter, r *http.Request) {
	q, err := parseRadarQuery(r.URL.Query(), time.Now())
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	found := q.matching(a.view.list())
	found = found[min(q.offset, len(found)):]
	found = found[:min(q.limit, len(found))]
	out := []anomalyJSON{}
	for _, f := range found {
		out = append(out, newAnomalyJSON(f, a.view.called(f.Entity)))
	}
	if q.csv {
		writeAnomaliesCSV(w, out)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"success": true, "result": map[string]any{"trafficAnomalies": out}})
}

func writeAnomaliesCSV(w http.ResponseWriter, all []anomalyJSON) {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	c := csv.NewWriter(w)
	_ = c.Write([]string{"uuid", "type", "status", "startDate", "endDate", "asn", "asnName", "location", "locationName", "visibleInDataSources"}) // the client is gone: nobody to tell
	for _, a := range all {
		row := []string{a.UUID, a.Type, a.Status, a.StartDate, a.EndDate, "", "", "", "", strings.Join(a.VisibleInDataSources, ";")}
		if d := a.ASNDetails; d != nil {
			row[5], row[6] = d.ASN, d.Name
		}
		if d := a.LocationDetails; d != nil {
			row[7], row[8] = d.Code, d.Name
		}
		_ = c.Write(row)
	}
	c.Flush()
}

func (a *radarAPI) locations(w http.ResponseWriter, r *http.Request) {
	q, err := parseRadarQuery(r.URL.Query(), time.Now())
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	counts := map[string]int{}
	for _, f := range q.matching(a.view.list()) {
		if f.Type() == "LOCATION" {
			counts[f.Entity]++
		}
	}
	type location struct {
		Alpha2 string `json:"clientCountryAlpha2"`
		Name   string `json:"clientCountryName"`
		Value  string `json:"value"`
	}
	out := []location{}
	for code, n := range counts {
		out = append(out, location{code, a.view.called(code), strconv.Itoa(n)})
	}
	slices.SortFunc(out, func(x, y location) int {
		return cmp.Or(cmp.Compare(counts[y.Alpha2], counts[x.Alpha2]), strings.Compare(x.Alpha2, y.Alpha2))
	})
	out = out[:min(q.limit, len(out))]
	if q.csv {
		w.Header().Set("Content-Type", "text/csv; charset=utf-8")
		c := csv.NewWriter(w)
		_ = c.Write([]string{"clientCountryAlpha2", "clientCountryName", "value"}) // the client is gone: nobody to tell
		for _, l := range out {
			_ = c.Write([]string{l.Alpha2, l.Name, l.Value})
		}
		c.Flush()
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"success": true, "result": map[string]any{"trafficAnomalies": out}})
}

func refuse(w http.ResponseWriter, code int, err error) {
	writeJSON(w, code, map[string]any{"success": false, "errors": []map[string]string{{"message": err.Error()}}})
}

// maxVerdictBytes bounds what a POST brings.
const maxVerdictBytes = 64 << 10

// postedVerdict is what a POST says: of an anomaly by its uuid, or by hand.
type postedVerdict struct {
	UUID      string         `json:"uuid"`
	Status    traffic.Status `json:"status"`
	By        string         `json:"by"`
	Note      string         `json:"note"`
	Manual    bool           `json:"manual"`
	Entity    string         `json:"entity"`    // these three by hand
	StartDate time.Time      `json:"startDate"` //
	EndDate   *time.Time     `json:"endDate"`   //
}

// judge appends what somebody says to the file of verdicts, from where the job takes it.
func (a *radarAPI) judge(w http.ResponseWriter, r *http.Request) {
	if a.verdicts == "" {
		refuse(w, http.StatusConflict, errors.New("the job has no file of verdicts: set traffic.verdicts in the job file"))
		return
	}
	var p postedVerdict
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxVerdictBytes))
	d.DisallowUnknownFields()
	err := d.Decode(&p)
	if err == nil {
		err = atEnd(d)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("%w; want an object with uuid, status and, as you like, by and note; or manual, entity, startDate, endDate", err))
		return
	}
	line, code, err := a.line(p)
	if err == nil {
		err = line.check()
	}
	if err != nil {
		refuse(w, cmp.Or(code, http.StatusBadRequest), err)
		return
	}
	if err := a.append(line); err != nil {
		refuse(w, http.StatusInternalServerError, fmt.Errorf("verdicts: %w", err))
		return
	}
	uuid := line.UUID
	if line.Manual { // unless it becomes a part of what has been found
		r := traffic.Record{Entity: line.Entity}
		uuid = traffic.Anomaly{Start: line.Start.UnixMicro()}.UUID(r.Type(), r.Entity)
	}
	writeJSON(w, http.StatusAccepted, map[string]any{"success": true, "result": map[string]string{"uuid": uuid, "status": string(line.Status)}})
}

// atEnd returns an error unless there is nothing but space behind what was decoded.
func atEnd(d *json.Decoder) error {
	switch _, err := d.Token(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("behind the object: %w", err)
	}
	return errors.New("there is something behind the object")
}

// line makes a line of the file of what somebody says.
func (a *radarAPI) line(p postedVerdict) (l verdictLine, code int, err error) {
	l = verdictLine{UUID: p.UUID, Entity: p.Entity, Start: p.StartDate.UTC(), End: p.EndDate, Status: p.Status, Manual: p.Manual, By: p.By, Note: p.Note}
	if p.Manual {
		if p.UUID != "" {
			return l, 0, errors.New("uuid: an entry by hand has none yet")
		}
		return l, 0, nil
	}
	if p.Entity != "" || !p.StartDate.IsZero() || p.EndDate != nil {
		return l, 0, errors.New("entity, startDate, endDate: are for entries by hand; the uuid says which anomaly it is")
	}
	found, ok := a.view.find(p.UUID)
	if !ok {
		return l, http.StatusNotFound, fmt.Errorf("uuid %q: no anomaly of this job", p.UUID)
	}
	l.Entity, l.Start = found.Entity, time.UnixMicro(found.Start).UTC()
	if found.HasEnd {
		end := time.UnixMicro(found.End).UTC()
		l.End = &end
	}
	return l, 0, nil
}

// append writes a line to the file of verdicts for good.
func (a *radarAPI) append(l verdictLine) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	if now := a.view.now(); now > 0 {
		at := time.UnixMicro(now).UTC()
		l.At = &at
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(a.verdicts, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	err = errors.Join(appendLine(f, b), f.Close())
	if err == nil && l.UUID != "" {
		a.view.say(l.UUID, l.Status)
	}
	return err
}

// appendLine appends a line to a file, whole or not at all. Whoever has edited the file may have left
// its last line without an end.
func appendLine(f *os.File, line []byte) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	open, err := unfinished(f, size)
	if err != nil {
		return err
	}
	if open {
		line = append([]byte("\n"), line...)
	}
	if _, err = f.Write(append(line, '\n')); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Truncate(size))
	}
	return nil
}

// unfinished tells whether the last line of a file has no end.
func unfinished(f *os.File, size int64) (bool, error) {
	if size == 0 {
		return false, nil
	}
	last := make([]byte, 1)
	_, err := f.ReadAt(last, size-1)
	return last[0] != '\n', err
}
