package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark/tidemark/operators/power"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/schemas/pdu"
)

// powerReading is one reading of a file.
type powerReading struct {
	at     int64
	pdu    string
	sample power.Sample
}

// powerFile are the readings of a file, by time.
type powerFile struct {
	readings []powerReading
	unread   []string // columns that nothing is made of
	none     int      // values that a device does not support
}

// readPower reads a file of readings: CSV with a header, or one JSON object a line. It has the
// columns of feed pdu, or objects of a vendor: object (or sensor_type with digits), element or
// index, and value, the integer as the device sends it.
func readPower(name string, r io.Reader) (*powerFile, error) {
	in := bufio.NewReader(r)
	b, err := in.Peek(1)
	if err != nil {
		return nil, fmt.Errorf("%s: is empty: want CSV with a header, or one JSON object a line", name)
	}
	next := powerCSV(in)
	if b[0] == '{' {
		next = powerJSON(in)
	}
	f := &powerFile{}
	unread := map[string]bool{}
	for {
		row, line, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = f.add(row, unread)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, line, err)
		}
	}
	if len(f.readings) == 0 {
		return nil, fmt.Errorf("%s: has no reading", name)
	}
	f.unread = slices.Sorted(maps.Keys(unread))
	slices.SortStableFunc(f.readings, func(a, b powerReading) int { return cmp.Compare(a.at, b.at) })
	return f, nil
}

// powerCSV gives the rows of CSV by column, without empty cells.
func powerCSV(r io.Reader) func() (map[string]string, int, error) {
	c := csv.NewReader(r)
	c.ReuseRecord = true
	var header []string
	return func() (map[string]string, int, error) {
		if header == nil {
			h, err := c.Read()
			if err != nil {
				return nil, 1, err
			}
			header = slices.Clone(h)
			header[0] = strings.TrimPrefix(header[0], "\ufeff")
			if name := twice(header); name != "" {
				return nil, 1, fmt.Errorf("column %q is there twice", name)
			}
		}
		rec, err := c.Read()
		if parse := (*csv.ParseError)(nil); errors.As(err, &parse) {
			return nil, parse.Line, parse.Err
		}
		if err != nil {
			return nil, 0, err
		}
		line, _ := c.FieldPos(0)
		row := map[string]string{}
		for i, name := range header {
			if rec[i] != "" {
				row[name] = rec[i]
			}
		}
		return row, line, nil
	}
}

// powerJSON gives the objects of JSON lines by member, without nulls.
func powerJSON(r io.Reader) func() (map[string]string, int, error) {
	lines := newLineReader(r)
	return func() (map[string]string, int, error) {
		b, line, err := lines.next()
		if err != nil {
			return nil, line, err
		}
		row := map[string]string{}
		err = readObject(bytes.TrimSpace(b), func(name string, v any) error {
			switch v := v.(type) {
			case nil:
			case string:
				row[name] = v
			case json.Number:
				row[name] = v.String()
			default:
				row[name] = fmt.Sprint(v)
			}
			return nil
		})
		return row, line, err
	}
}

// add takes a row.
func (f *powerFile) add(row map[string]string, unread map[string]bool) error {
	r := powerReading{pdu: row["pdu_id"]}
	if r.pdu == "" {
		return fmt.Errorf("pdu_id: missing; the columns are %s", strings.Join(slices.Sorted(maps.Keys(row)), ", "))
	}
	var err error
	if r.at, err = powerTime(row); err != nil {
		return err
	}
	if scope := row["scope"]; scope != "" && !slices.Contains(power.Scopes(), power.Scope(scope)) {
		return fmt.Errorf("scope: %q: want one of %v", short(scope), power.Scopes())
	}
	switch w := power.Wiring(row["wiring"]); w {
	case "", power.WiringDelta, power.WiringWye, power.WiringSingle:
	default:
		return fmt.Errorf("wiring: %q: want delta, wye or single", short(string(w)))
	}
	r.sample = power.NewSample(power.Scope(row["scope"]), row["element"])
	r.sample.Feed, r.sample.Wiring = row["feed"], power.Wiring(row["wiring"])
	ok := true
	if row["object"] != "" || row["sensor_type"] != "" {
		ok, err = vendorValue(&r.sample, row)
	} else {
		err = feedValues(&r.sample, row, unread)
	}
	if err != nil {
		return err
	}
	if !ok {
		f.none++
		return nil
	}
	f.readings = append(f.readings, r)
	return nil
}

// oldestMillis is in 1973: a smaller number of ms is one of seconds.
const oldestMillis = 100_000_000_000

// powerTime reads ts_device, or time: Unix ms, or RFC 3339.
func powerTime(row map[string]string) (int64, error) {
	name := pdu.EventTime
	if row[name] == "" {
		name = "time"
	}
	text := row[name]
	if text == "" {
		return 0, fmt.Errorf("%s: missing, and there is no time: want Unix ms, or RFC 3339", pdu.EventTime)
	}
	at := int64(0)
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		if ms < oldestMillis {
			return 0, fmt.Errorf("%s: %d is before 1973 in ms: want Unix ms, or RFC 3339", name, ms)
		}
		at = pipeline.AddTicks(0, min(ms, math.MaxInt64/1000)*1000)
	} else if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		at = t.UnixMicro()
	} else {
		return 0, fmt.Errorf("%s: %q is no time: want Unix ms, or RFC 3339 such as 2026-01-31T14:00:00Z", name, short(text))
	}
	if at < pipeline.MinEventTime || at >= pipeline.MaxEventTime {
		return 0, fmt.Errorf("%s: %q is not within 1900 to 2299", name, short(text))
	}
	return at, nil
}

// powerQuantities are the columns of feed pdu that are measured.
var powerQuantities = map[string]power.Quantity{"v": power.VoltageV, "a": power.CurrentA, "w": power.PowerW, "va": power.ApparentVA,
	"var": power.ReactiveVar, "pf": power.PowerFactor, "kwh_total": power.EnergyKWh, "rated_a": power.RatedA}

// feedValues reads the columns of feed pdu, in the resolution that the feed has.
func feedValues(s *power.Sample, row map[string]string, unread map[string]bool) error {
	for name, text := range row {
		q, ok := powerQuantities[name]
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
			return fmt.Errorf("%s: %q is not a number", name, short(text))
		}
		for _, f := range pdu.Fields() {
			if f.Name == name {
				ten := math.Pow10(f.Scale)
				v = math.RoundToEven(v*ten) / ten
			}
		}
		s.Set(q, v)
	}
	for name := range row {
		if powerQuantities[name] == "" && !slices.Contains([]string{"pdu_id", "scope", "element", "feed", "wiring", pdu.EventTime, "time"}, name) {
			unread[name] = true
		}
	}
	return nil
}

// vendorValue reads an integer of a device. It returns false where the device does not support it.
func vendorValue(s *power.Sample, row map[string]string) (bool, error) {
	raw, err := strconv.ParseInt(row["value"], 10, 64)
	if err != nil {
		return false, fmt.Errorf("value: %q is not the integer that the device sends", short(row["value"]))
	}
	var r power.Reading
	if object := row["object"]; object != "" {
		r, err = power.Convert(object, raw)
	} else {
		typ, errT := strconv.Atoi(row["sensor_type"])
		digits, errD := strconv.Atoi(row["digits"])
		if errT != nil || errD != nil {
			return false, errors.New("sensor_type, digits: want whole numbers: the sensor's type and its DecimalDigits")
		}
		r, err = power.ConvertSensor(typ, power.Scope(row["scope"]), raw, digits)
	}
	if err != nil {
		return false, err
	}
	s.Scope = r.Scope
	if s.Element == "" {
		s.Element = row["index"]
	}
	if s.Scope == power.Unit {
		s.Element = "" // the index is that of the device in its own table
	}
	s.Set(r.Quantity, r.Value)
	return r.OK, nil
}
