package mapping

import (
	"errors"
	"fmt"
	"strings"
)

// condition is what when says. Values are compared as text: 1 equals "1", true equals
// "true". An absent or null value equals nothing.
type condition struct {
	op      conditionOp
	of      []condition // of allOf, anyOf and noneOf
	locator locator     // of isThere and isAmong
	values  []string    // of isAmong
}

type conditionOp uint8

const (
	always conditionOp = iota
	allOf
	anyOf
	noneOf
	isThere
	isAmong
)

// conditionParser reads a condition by recursive descent: or, and, not, test.
type conditionParser struct {
	c     *compiler
	text  string
	at    int
	depth int
}

// maxConditionDepth bounds nesting.
const maxConditionDepth = 100

// condition reads the text of a condition.
func (c *compiler) condition(text string) (condition, error) {
	p := conditionParser{c: c, text: text}
	out, err := p.chain("or", anyOf, func() (condition, error) { return p.chain("and", allOf, p.not) })
	if err == nil && p.rest() != "" {
		err = fmt.Errorf("unexpected %q", p.rest())
	}
	if err != nil {
		return condition{}, fmt.Errorf("when: byte %d: %w; a condition looks like $.kind = 'door' and ($.code in (1, 2) or not $.user exists)", p.at, err)
	}
	return out, nil
}

// rest is what is not read yet.
func (p *conditionParser) rest() string {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
	return p.text[p.at:]
}

func (p *conditionParser) chain(word string, op conditionOp, next func() (condition, error)) (condition, error) {
	first, err := next()
	if err != nil {
		return first, err
	}
	out := condition{op: op, of: []condition{first}}
	for p.word(word) {
		c, err := next()
		if err != nil {
			return c, err
		}
		out.of = append(out.of, c)
	}
	if len(out.of) == 1 {
		return first, nil
	}
	return out, nil
}

func (p *conditionParser) not() (condition, error) {
	if p.depth++; p.depth > maxConditionDepth {
		return condition{}, fmt.Errorf("nested deeper than %d", maxConditionDepth)
	}
	defer func() { p.depth-- }()
	if p.word("not") {
		c, err := p.not()
		return condition{op: noneOf, of: []condition{c}}, err
	}
	if !p.sign("(") {
		return p.test()
	}
	c, err := p.chain("or", anyOf, func() (condition, error) { return p.chain("and", allOf, p.not) })
	if err == nil && !p.sign(")") {
		err = errors.New("a closing parenthesis is missing")
	}
	return c, err
}

// test reads LOCATOR exists, LOCATOR = VALUE, LOCATOR != VALUE, LOCATOR [not] in (VALUE, …).
func (p *conditionParser) test() (condition, error) {
	token := p.rest()
	if end := strings.IndexAny(token, " \t\r\n=!()"); end >= 0 {
		token = token[:end]
	}
	l, err := p.c.locatorOf(token)
	if err != nil {
		return condition{}, err
	}
	p.at += len(token)
	out := condition{op: isAmong, locator: l}
	negate := false
	switch {
	case p.word("exists"):
		out.op = isThere
		return out, nil
	case p.sign("!="):
		negate = true
		fallthrough
	case p.sign("="):
		v, err := p.value()
		if err != nil {
			return out, err
		}
		out.values = []string{v}
	default:
		negate = p.word("not")
		if !p.word("in") {
			return out, errors.New("want exists, =, != or in (…) behind the locator")
		}
		if out.values, err = p.values(); err != nil {
			return out, err
		}
	}
	if negate {
		return condition{op: noneOf, of: []condition{out}}, nil
	}
	return out, nil
}

func (p *conditionParser) values() ([]string, error) {
	if !p.sign("(") {
		return nil, errors.New("want ( behind in")
	}
	var out []string
	for {
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		out = append(out, v)
		if p.sign(")") {
			return out, nil
		}
		if !p.sign(",") {
			return nil, errors.New("want , or ) behind a value")
		}
	}
}

// value reads a text in single quotes, where two stand for one, or a word or number.
func (p *conditionParser) value() (string, error) {
	s := p.rest()
	if !strings.HasPrefix(s, "'") {
		end := strings.IndexAny(s, " \t\r\n,()='")
		if end < 0 {
			end = len(s)
		}
		if end == 0 {
			return "", errors.New("a value is missing")
		}
		if c := s[0]; !isDigit(c) && c != '-' && s[:end] != "true" && s[:end] != "false" {
			return "", fmt.Errorf("%q is no value: put text in single quotes", s[:end])
		}
		p.at += end
		return s[:end], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		p.at += i + 1
		return b.String(), nil
	}
	return "", errors.New("a text without its closing quote")
}

func (p *conditionParser) sign(s string) bool {
	if !strings.HasPrefix(p.rest(), s) {
		return false
	}
	p.at += len(s)
	return true
}

// word takes a key word, in any case of letters.
func (p *conditionParser) word(w string) bool {
	s := p.rest()
	if len(s) < len(w) || !strings.EqualFold(s[:len(w)], w) {
		return false
	}
	if len(s) > len(w) && strings.IndexByte(" \t\r\n()'", s[len(w)]) < 0 {
		return false
	}
	p.at += len(w)
	return true
}

// holds tells whether the event fulfils a condition.
func (m *Mapper) holds(c *condition) bool {
	switch c.op {
	case allOf:
		for i := range c.of {
			if !m.holds(&c.of[i]) {
				return false
			}
		}
		return true
	case anyOf:
		for i := range c.of {
			if m.holds(&c.of[i]) {
				return true
			}
		}
		return false
	case noneOf:
		return !m.holds(&c.of[0])
	case isThere:
		n, _ := m.locate(&c.locator)
		return n >= 0
	case isAmong:
		return m.among(c)
	}
	return true
}

// among tells whether the value at the locator is one of the condition's.
func (m *Mapper) among(c *condition) bool {
	n, _ := m.locate(&c.locator)
	if n < 0 {
		return false
	}
	var b []byte
	switch v := &m.doc.nodes[n]; v.kind {
	case text, integer, float:
		b = m.doc.bytes(v.text)
	case yes:
		b = []byte("true")
	case no:
		b = []byte("false")
	default:
		return false
	}
	for _, v := range c.values {
		if string(b) == v {
			return true
		}
	}
	return false
}
