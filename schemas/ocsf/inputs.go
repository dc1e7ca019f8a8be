package ocsf

import (
	"errors"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
)

// Inputs are the columns of the rows that a mapper is made for. Who builds attributes
// takes the columns that they hold; unmapped gets all others, and in each row what an
// attribute could not hold.
type Inputs struct {
	schema *arrow.Schema
	byName map[string]*Input
	taken  map[string]bool
	spare  []spare
}

// spare is a column that unmapped has in the rows in which no attribute holds it.
type spare struct {
	in   *Input
	held func(row int) bool
}

// bindInputs finds the columns of a schema. All problems come joined.
func bindInputs(schema *arrow.Schema) (*Inputs, error) {
	c := &Inputs{schema: schema, byName: map[string]*Input{}, taken: map[string]bool{}}
	var errs []error
	for i, f := range schema.Fields() {
		in, err := newInput(schema, i)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if c.byName[f.Name] != nil {
			errs = append(errs, fmt.Errorf("column %q: the name is used twice", f.Name))
		}
		c.byName[f.Name] = in
	}
	return c, errors.Join(errs...)
}

// need takes a column that the rows must have.
func (c *Inputs) need(name string, typ arrow.Type) (*Input, error) {
	in := c.Take(name)
	if in == nil {
		return nil, fmt.Errorf("column %q: the results have none", name)
	}
	if in.typ.ID() != typ {
		return in, fmt.Errorf("column %q: type %s, want %s", name, in.typ, typ)
	}
	return in, nil
}

// Column returns a column, nil when there is none. It goes to unmapped all the same.
func (c *Inputs) Column(name string) *Input { return c.byName[name] }

// All returns the columns in order.
func (c *Inputs) All() []*Input {
	out := make([]*Input, c.schema.NumFields())
	for i, f := range c.schema.Fields() {
		out[i] = c.byName[f.Name]
	}
	return out
}

// Take is Column for one that an attribute holds in every row, so that unmapped need not.
func (c *Inputs) Take(name string) *Input {
	in := c.byName[name]
	if in != nil {
		c.taken[name] = true
	}
	return in
}

// TakeInt is Take for a column of whole numbers or times; one of another type is an error.
func (c *Inputs) TakeInt(name string) (*Input, error) {
	in := c.Take(name)
	if in != nil && !in.IsInt() {
		return nil, fmt.Errorf("column %q: type %s with scale %d, want a whole number", name, in.typ, in.scale)
	}
	return in, nil
}

// TakeText is Take for a text. A column of another type is none, and stays for unmapped.
func (c *Inputs) TakeText(name string) *Input { return c.takeOf(name, (*Input).isText) }

// TakeTime is TakeText for a time.
func (c *Inputs) TakeTime(name string) *Input { return c.takeOf(name, (*Input).isTime) }

// TakeWhole is TakeText for whole numbers that are no times.
func (c *Inputs) TakeWhole(name string) *Input {
	return c.takeOf(name, func(in *Input) bool { return in.IsInt() && !in.isTime() })
}

// TakeNumber is TakeText for a number with or without a fraction. In rows in which it is
// infinite or none, which OCSF cannot say, unmapped has it.
func (c *Inputs) TakeNumber(name string) *Input {
	in := c.takeOf(name, (*Input).isNumber)
	if in != nil {
		c.HeldIf(in, in.finite)
	}
	return in
}

func (c *Inputs) takeOf(name string, of func(*Input) bool) *Input {
	if in := c.byName[name]; in == nil || !of(in) || c.taken[name] {
		return nil
	}
	return c.Take(name)
}

// HeldIf says in which rows an attribute holds the value of a column that was taken; in
// the others unmapped does. Of several conditions all must hold.
func (c *Inputs) HeldIf(in *Input, held func(row int) bool) {
	if in == nil {
		return
	}
	for i := range c.spare {
		if s := &c.spare[i]; s.in == in {
			before := s.held
			s.held = func(row int) bool { return before(row) && held(row) }
			return
		}
	}
	c.spare = append(c.spare, spare{in, held})
}

// small takes a column for an integer_t. What 32 bits do not hold is null, and unmapped has
// it.
func (c *Inputs) small(in *Input) func(row int) (int32, bool) {
	if in != nil {
		c.HeldIf(in, func(row int) bool { return isSmall(in.Int(row)) })
	}
	return small(in.Int)
}

func isSmall(v int64, ok bool) bool { return ok && v >= math.MinInt32 && v <= math.MaxInt32 }

// small narrows to integer_t; what does not fit is null.
func small(f func(row int) (int64, bool)) func(row int) (int32, bool) {
	return func(row int) (int32, bool) {
		v, ok := f(row)
		return int32(v), isSmall(v, ok)
	}
}

// unmapped is the attribute with all that no other holds, and what more adds. It is built
// last. The names that more uses are reserved.
func (c *Inputs) unmapped(more func(m *Pairs, row int), reserved ...string) (Attr, error) {
	var rest []*Input
	for _, in := range c.All() {
		if !c.taken[in.Name] {
			rest = append(rest, in)
		}
	}
	for _, name := range reserved {
		if c.byName[name] != nil && !c.taken[name] {
			return Attr{}, fmt.Errorf("column %q: unmapped has an entry of that name; give the column another one", name)
		}
	}
	spare := c.spare
	return Attr{Name: "unmapped", Map: func(m *Pairs, row int) {
		if more != nil {
			more(m, row)
		}
		for _, in := range rest {
			in.add(m, in.Name, row)
		}
		for _, s := range spare {
			if !s.held(row) {
				s.in.add(m, s.in.Name, row)
			}
		}
	}}, nil
}

// add adds the value under a name, if it is not null.
func (in *Input) add(m *Pairs, name string, row int) {
	m.Add(name, func(dst []byte) ([]byte, bool) { return in.AppendText(dst, row) })
}
