package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark/tidemark/operators/traffic"
)

const (
	// seriesTime is the column with the start of the slot.
	seriesTime = "ts"
	// maxSeriesGap bounds what a wrong year makes of a file: every slot that it leaves out is one
	// that is missing.
	maxSeriesGap = 366 * 24 * time.Hour
	// maxSignals bounds the value columns of a file: each has a detector of its own.
	maxSignals = 256
)

// seriesReader reads series of 15-minute slots from CSV: column ts has the start of a slot, and
// every other column the values of a signal. An empty value is missing, and so is a row that is
// left out.
type seriesReader struct {
	name    string
	csv     *csv.Reader
	time    int // column
	signals []string
	values  []float64
	last    int64 // start of the row before
	any     bool
}

func newSeriesReader(name string, in io.Reader) (*seriesReader, error) {
	s := &seriesReader{name: name, csv: csv.NewReader(in)}
	s.csv.ReuseRecord = true
	head, err := s.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: is empty; the first line names the columns: ts,value", name)
	}
	if err != nil {
		return nil, s.fault(err)
	}
	head[0] = strings.TrimPrefix(head[0], "\ufeff")
	if s.time = slices.Index(head, seriesTime); s.time < 0 {
		return nil, s.at(0, "no column ts among %q; the first line names the columns: ts,value", head)
	}
	for i, h := range head {
		switch {
		case i == s.time:
			continue
		case h == "":
			return nil, s.at(i, "column %d has no name; name the signal that it holds", i+1)
		case h == seriesTime || slices.Contains(s.signals, h):
			return nil, s.at(i, "column %q is there twice; leave one out", h)
		}
		s.signals = append(s.signals, strings.Clone(h))
	}
	if n := len(s.signals); n == 0 || n > maxSignals {
		return nil, s.at(0, "%d columns of values: want 1 to %d", n, maxSignals)
	}
	s.values = make([]float64, len(s.signals))
	return s, nil
}

// next returns the start of the next slot of the file and its values, which the next call
// overwrites. Slots come in order; the end is io.EOF.
func (s *seriesReader) next() (start int64, values []float64, err error) {
	row, err := s.csv.Read()
	if err != nil {
		return 0, nil, s.fault(err)
	}
	if start, err = s.start(row[s.time]); err != nil {
		return 0, nil, err
	}
	values = s.values[:0]
	for i, text := range row {
		if i == s.time {
			continue
		}
		v := traffic.Missing()
		if text != "" {
			v, err = strconv.ParseFloat(text, 64)
			if err != nil || !(v >= 0) || math.IsInf(v, 0) {
				return 0, nil, s.at(i, "value %q of %s: want a number of 0 or more, or nothing where it is missing", text, s.signals[len(values)])
			}
		}
		values = append(values, v)
	}
	return start, values, nil
}

// start reads the start of a slot.
func (s *seriesReader) start(text string) (int64, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, s.at(s.time, "ts %q: want RFC 3339, such as 2024-03-04T00:15:00Z", text)
	}
	if t.Year() < 1900 || t.Year() > 2299 {
		return 0, s.at(s.time, "ts %s: want a year from 1900 to 2299", text)
	}
	start := t.UnixMicro()
	gap := time.Duration(start-s.last) * time.Microsecond
	switch {
	case start%traffic.SlotTicks != 0 || t.Nanosecond() != 0:
		return 0, s.at(s.time, "ts %s begins no slot: those begin at :00, :15, :30 and :45 UTC; sum the values by them first, or let a job with traffic: do it", text)
	case s.any && gap == 0:
		return 0, s.at(s.time, "ts %s is there twice; leave one out, or give each signal a column", text)
	case s.any && gap < 0:
		return 0, s.at(s.time, "ts %s comes after %s; sort the rows by ts", text, stamp(s.last))
	case s.any && gap > maxSeriesGap:
		return 0, s.at(s.time, "ts %s is %d days after the row before; mend the date, or cut the file in two", text, gap/(24*time.Hour))
	}
	s.last, s.any = start, true
	return start, nil
}

// at is an error about a column of the row at hand.
func (s *seriesReader) at(column int, format string, args ...any) error {
	line, byteInLine := s.csv.FieldPos(column)
	return fmt.Errorf("%s:%d:%d: %s", s.name, line, byteInLine, fmt.Sprintf(format, args...))
}

// fault is what the CSV reader says, with the file and the next step.
func (s *seriesReader) fault(err error) error {
	var p *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return err
	case errors.As(err, &p) && errors.Is(err, csv.ErrFieldCount):
		return fmt.Errorf("%s:%d:%d: the row has not as many columns as the first line; mend the row", s.name, p.Line, p.Column)
	case errors.As(err, &p):
		return fmt.Errorf("%s:%d:%d: %w; mend the quotes", s.name, p.Line, p.Column, p.Err)
	}
	return fmt.Errorf("%s: %w", s.name, err)
}

// stamp is a time as the tools on files print it.
func stamp(ticks int64) string { return time.UnixMicro(ticks).UTC().Format(time.RFC3339) }
