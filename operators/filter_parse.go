package operators

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
)

// filterParser reads a condition by recursive descent: or, and, not, comparison.
type filterParser struct {
	text  string
	rows  *arrow.Schema
	at    int // byte that is read next, or where the mistake is
	depth int
}

// maxFilterDepth bounds nesting.
const maxFilterDepth = 100

func (p *filterParser) parse() (condition, error) {
	c, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.blank(); p.at < len(p.text) {
		return nil, fmt.Errorf("unexpected %q", short(p.text[p.at:]))
	}
	return c, nil
}

func short(s string) string {
	if len(s) > 20 {
		return s[:20]
	}
	return s
}

func (p *filterParser) or() (condition, error) {
	return p.chain("or", p.and, func(a, b condition) condition { return either{a, b} })
}

func (p *filterParser) and() (condition, error) {
	return p.chain("and", p.not, func(a, b condition) condition { return both{a, b} })
}

func (p *filterParser) chain(word string, next func() (condition, error), join func(a, b condition) condition) (condition, error) {
	a, err := next()
	for err == nil && p.word(word) {
		var b condition
		if b, err = next(); err == nil {
			a = join(a, b)
		}
	}
	return a, err
}

func (p *filterParser) not() (condition, error) {
	if p.depth++; p.depth > maxFilterDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxFilterDepth)
	}
	defer func() { p.depth-- }()
	if p.word("not") {
		c, err := p.not()
		return negated{c}, err
	}
	if p.sign("(") {
		c, err := p.or()
		if err == nil && !p.sign(")") {
			err = errors.New("a closing parenthesis is missing")
		}
		return c, err
	}
	return p.comparison()
}

func (p *filterParser) blank() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// sign takes a token of signs.
func (p *filterParser) sign(s string) bool {
	p.blank()
	if !strings.HasPrefix(p.text[p.at:], s) {
		return false
	}
	p.at += len(s)
	return true
}

// word takes a key word, in any case.
func (p *filterParser) word(w string) bool {
	p.blank()
	if id := p.peekName(); strings.EqualFold(id, w) {
		p.at += len(id)
		return true
	}
	return false
}

func (p *filterParser) peekName() string {
	p.blank()
	end := p.at
	for end < len(p.text) {
		c := p.text[end]
		if c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z' || end > p.at && '0' <= c && c <= '9' {
			end++
			continue
		}
		break
	}
	return p.text[p.at:end]
}

func (p *filterParser) comparison() (condition, error) {
	name := p.peekName()
	if name == "" {
		return nil, errors.New("a column name is missing")
	}
	at := p.rows.FieldIndices(name)
	if len(at) != 1 {
		return nil, fmt.Errorf("%q is no column; there are %s", name, strings.Join(columnNames(p.rows), ", "))
	}
	p.at += len(name)
	col, field := at[0], p.rows.Field(at[0])
	if p.word("is") {
		want := !p.word("not")
		if !p.word("null") {
			return nil, errors.New("null is missing")
		}
		return nullTest{col, want}, nil
	}
	not := p.word("not")
	if p.word("in") {
		c, err := p.list(col, field)
		if not {
			c = negated{c}
		}
		return c, err
	}
	if not {
		return nil, errors.New("in is missing")
	}
	for _, op := range []string{"<=", ">=", "!=", "<", ">", "="} {
		if p.sign(op) {
			return p.compare(col, field, op)
		}
	}
	if field.Type.ID() == arrow.BOOL {
		return boolColumn{col, true}, nil
	}
	return nil, fmt.Errorf("what %s is compared with is missing", name)
}

func columnNames(s *arrow.Schema) []string {
	var names []string
	for _, f := range s.Fields() {
		names = append(names, f.Name)
	}
	return names
}

func (p *filterParser) list(col int, field arrow.Field) (condition, error) {
	if !p.sign("(") {
		return nil, errors.New("a list in parentheses is missing")
	}
	var any condition
	for {
		c, err := p.compare(col, field, "=")
		if err != nil {
			return nil, err
		}
		if any == nil {
			any = c
		} else {
			any = either{any, c}
		}
		if p.sign(")") {
			return any, nil
		}
		if !p.sign(",") {
			return nil, errors.New("a comma or closing parenthesis is missing")
		}
	}
}

// compare reads the constant that a column is compared with.
func (p *filterParser) compare(col int, field arrow.Field, op string) (condition, error) {
	p.blank()
	switch field.Type.ID() {
	case arrow.STRING:
		v, err := p.quoted()
		return textCompare{col, signs(op), v}, err
	case arrow.BOOL:
		v := p.word("true")
		if !v && !p.word("false") {
			return nil, errors.New("true or false is missing")
		}
		if op != "=" && op != "!=" {
			return nil, fmt.Errorf("%s does not go with a bool", op)
		}
		return boolColumn{col, v == (op == "=")}, nil
	case arrow.INT64:
		v, err := p.number()
		if err != nil {
			return nil, err
		}
		scale := 0
		if text, ok := field.Metadata.GetValue(pipeline.ScaleKey); ok {
			if scale, err = strconv.Atoi(text); err != nil {
				return nil, fmt.Errorf("column %s has scale %q", field.Name, text)
			}
		}
		return intCompare(col, op, v, scale), nil
	case arrow.FLOAT64:
		v, err := p.number()
		if err != nil {
			return nil, err
		}
		f, _ := v.Float64()
		return floatCompare{col, signs(op), f}, nil
	}
	return nil, fmt.Errorf("column %s has type %s, which is compared with nothing", field.Name, field.Type)
}

func (p *filterParser) quoted() (string, error) {
	if p.at >= len(p.text) || p.text[p.at] != '\'' {
		return "", errors.New("text in single quotes is missing")
	}
	var b strings.Builder
	for i := p.at + 1; i < len(p.text); i++ {
		if p.text[i] != '\'' {
			b.WriteByte(p.text[i])
			continue
		}
		if i+1 < len(p.text) && p.text[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		p.at = i + 1
		return b.String(), nil
	}
	return "", errors.New("the text has no closing quote")
}

func (p *filterParser) number() (*big.Rat, error) {
	end := p.at
	for end < len(p.text) && strings.IndexByte("+-.0123456789eE", p.text[end]) >= 0 {
		end++
	}
	text := p.text[p.at:end]
	// A large exponent would make an integer that fills the memory.
	if f, err := strconv.ParseFloat(text, 64); err != nil || math.IsInf(f, 0) || f != 0 && math.Abs(f) < 1e-300 {
		return nil, fmt.Errorf("%q is no number", short(p.text[p.at:]))
	}
	v, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil, fmt.Errorf("%q is no number", text)
	}
	p.at = end
	return v, nil
}

// accepts says which outcomes of a three-way comparison make an operator true.
type accepts struct{ less, equal, more bool }

func signs(op string) accepts {
	return accepts{less: op == "<" || op == "<=" || op == "!=", equal: op == "=" || op == "<=" || op == ">=", more: op == ">" || op == ">=" || op == "!="}
}

func (a accepts) of(c int) truth {
	if c < 0 && a.less || c == 0 && a.equal || c > 0 && a.more {
		return isTrue
	}
	return isFalse
}

// intCompare compares a column of integers times 10^-scale with a number, exactly: a
// number between two of its values is above the lower and below the upper one.
func intCompare(col int, op string, v *big.Rat, scale int) condition {
	scaled := new(big.Rat).Mul(v, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
	floor := new(big.Int).Div(scaled.Num(), scaled.Denom()) // Euclidean, and Denom > 0: floor
	a := signs(op)
	c := intColumn{col: col, accepts: a, between: !scaled.IsInt()}
	switch {
	case floor.IsInt64():
		c.value = floor.Int64()
	case floor.Sign() < 0: // below every value
		c.value, c.between = math.MinInt64, false
		c.accepts = accepts{a.more, a.more, a.more}
	default:
		c.value, c.between = math.MaxInt64, false
		c.accepts = accepts{a.less, a.less, a.less}
	}
	return c
}

type intColumn struct {
	col     int
	accepts accepts
	value   int64
	between bool // the number lies between value and value + 1
}

func (c intColumn) eval(rec arrow.RecordBatch) []truth {
	col := rec.Column(c.col).(*array.Int64)
	out := make([]truth, col.Len())
	for i, v := range col.Int64Values() {
		by := cmp.Compare(v, c.value)
		if by == 0 && c.between {
			by = -1
		}
		out[i] = c.accepts.of(by)
	}
	return nulls(col, out)
}

type floatCompare struct {
	col     int
	accepts accepts
	value   float64
}

func (c floatCompare) eval(rec arrow.RecordBatch) []truth {
	col := rec.Column(c.col).(*array.Float64)
	out := make([]truth, col.Len())
	for i, v := range col.Float64Values() {
		out[i] = c.accepts.of(cmp.Compare(v, c.value))
	}
	return nulls(col, out)
}

type textCompare struct {
	col     int
	accepts accepts
	value   string
}

func (c textCompare) eval(rec arrow.RecordBatch) []truth {
	col := rec.Column(c.col).(*array.String)
	out := make([]truth, col.Len())
	for i := range out {
		out[i] = c.accepts.of(strings.Compare(col.Value(i), c.value))
	}
	return nulls(col, out)
}

type boolColumn struct {
	col  int
	want bool
}

func (c boolColumn) eval(rec arrow.RecordBatch) []truth {
	col := rec.Column(c.col).(*array.Boolean)
	out := make([]truth, col.Len())
	for i := range out {
		if col.Value(i) == c.want {
			out[i] = isTrue
		}
	}
	return nulls(col, out)
}

// nulls makes unknown what comes of a null.
func nulls(col arrow.Array, out []truth) []truth {
	if col.NullN() > 0 {
		for i := range out {
			if col.IsNull(i) {
				out[i] = unknown
			}
		}
	}
	return out
}
