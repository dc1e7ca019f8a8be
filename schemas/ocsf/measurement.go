package ocsf

import (
	"fmt"
	"slices"
	"strings"
)

// Quantity is what a measurement measures.
type Quantity struct {
	Name, Unit string // Unit is a UCUM code
	Phase      string // "" for none, or that of PhaseOf
	// PhaseOf is a column that tells the phase of the row.
	PhaseOf *Input
	// Bare quantities do not say how many readings are behind them.
	Bare bool
}

// Statistics of a quantity, as members of a measurement are named.
const (
	ValueNum  = "value_num" // a reading by itself
	ValueMin  = "value_min"
	ValueMax  = "value_max"
	ValueAvg  = "value_avg"
	ValueSum  = "value_sum"
	ValueLast = "value_last"
)

// Statistic reads a statistic from the word that column names have for it.
func Statistic(word string) (value string, ok bool) {
	switch word {
	case "min", "max", "avg", "sum", "last":
		return "value_" + word, true
	case "mean":
		return ValueAvg, true
	case "delta": // what a counter rose by
		return ValueSum, true
	}
	return "", false
}

// CutStatistic reads a column name in which the base of a quantity, a statistic and the
// suffix of a unit are joined by _, the unit before or behind the statistic. Without a
// statistic it is a reading.
func CutStatistic(name, base, unit string) (value string, ok bool) {
	rest, ok := strings.CutPrefix(name, base+"_")
	if !ok {
		return "", false
	}
	if rest == unit {
		return ValueNum, true
	}
	word, ok := strings.CutPrefix(rest, unit+"_")
	if !ok {
		if word, ok = strings.CutSuffix(rest, "_"+unit); !ok {
			return "", false
		}
	}
	return Statistic(word)
}

// measured are the columns of one quantity.
type measured struct {
	Quantity
	values map[string]*Input // by member
}

// Measurements is the attribute with the quantities that columns have, one object each, in
// the order of the columns; false when there are none. read tells which statistic of which
// quantity a column is. A measurement needs one of value_num, value_avg, value_sum and
// value_last: without any of them in a row the other values of it go to unmapped. count is
// the number of readings behind it, nil for none; readings that lack the quantity are counted
// too.
func (c *Inputs) Measurements(read func(column string) (q Quantity, value string, ok bool), count func(row int) (int64, bool)) (Attr, bool) {
	var all []*measured
	at := map[Quantity]*measured{}
	for _, in := range c.All() {
		if c.taken[in.Name] || !in.isNumber() {
			continue
		}
		q, value, ok := read(in.Name)
		if !ok {
			continue
		}
		m := at[q]
		if m == nil {
			m = &measured{q, map[string]*Input{}}
			at[q] = m
			all = append(all, m)
		}
		if m.values[value] == nil { // else it is said twice, and unmapped has the second
			m.values[value] = in
		}
	}
	var list []Item
	phased := map[*Input][]Item{}
	for _, m := range all {
		if m.carried() {
			item := c.measurement(m, count)
			list = append(list, item)
			if m.PhaseOf != nil {
				phased[m.PhaseOf] = append(phased[m.PhaseOf], item)
			}
		}
	}
	for in, items := range phased {
		c.Take(in.Name)
		c.HeldIf(in, func(row int) bool {
			return slices.ContainsFunc(items, func(i Item) bool { return i.Present(row) })
		})
	}
	return ListOf("measurements", list...), len(list) > 0
}

// RequireMeasurements is Measurements for a class that must have them. example is the name
// of a column that is one.
func (c *Inputs) RequireMeasurements(read func(column string) (q Quantity, value string, ok bool), count func(row int) (int64, bool), example string) (Attr, error) {
	a, ok := c.Measurements(read, count)
	if !ok {
		return a, fmt.Errorf("no column is a measurement, of which this class needs one: name one like %s, or take dialect core", example)
	}
	return a, nil
}

// carriers are the values of which a measurement needs one.
func (m *measured) carriers() []*Input {
	var out []*Input
	for _, v := range [...]string{ValueNum, ValueAvg, ValueSum, ValueLast} {
		if in := m.values[v]; in != nil {
			out = append(out, in)
		}
	}
	return out
}

func (m *measured) carried() bool { return len(m.carriers()) > 0 }

func (c *Inputs) measurement(m *measured, count func(row int) (int64, bool)) Item {
	carriers := m.carriers()
	there := func(row int) bool {
		for _, in := range carriers {
			if in.finite(row) {
				return true
			}
		}
		return false
	}
	of := []Attr{{Name: "name", Fixed: m.Name}, {Name: "measure_unit", Fixed: m.Unit}}
	switch {
	case m.Phase != "":
		of = append(of, Attr{Name: "measure_phase", Fixed: m.Phase})
	case m.PhaseOf != nil:
		of = append(of, Attr{Name: "measure_phase", Text: m.PhaseOf.AppendText})
	}
	for _, v := range [...]string{ValueNum, ValueMin, ValueMax, ValueAvg, ValueSum, ValueLast} {
		if in := m.values[v]; in != nil {
			c.TakeNumber(in.Name)
			of = append(of, c.heldNumber(v, in, there)...)
		}
	}
	if count != nil && !m.Bare {
		of = append(of, Attr{Name: "count", Int32: small(count)})
	}
	return Item{Present: there, Of: of}
}
