package ocsf

import "strconv"

// spot is where the event ends, in the text and in its tree.
type spot struct{ out, nodes int }

func (c *Conformer) here() spot { return spot{len(c.out), len(c.tree.nodes)} }

// cut takes back what was written behind a spot.
func (c *Conformer) cut(p spot) { c.out, c.tree.nodes = c.out[:p.out], c.tree.nodes[:p.nodes] }

// comma goes on to the next member or element, which has no name yet.
func (c *Conformer) comma() {
	if last := c.out[len(c.out)-1]; last != '{' && last != '[' {
		c.out = append(c.out, ',')
	}
	c.tree.due(0, 0, len(c.out))
}

// member writes the name of an attribute whose value comes next.
func (c *Conformer) member(it *item, at int32) {
	c.comma()
	from := len(c.out)
	c.out = append(c.out, it.attrs[at].label...)
	to := len(c.out)
	c.tree.due(from+1, to-2, to)
	c.tree.attr = at
}

// name writes a name that needs no escapes.
func (c *Conformer) name(name string) {
	from := c.quote()
	c.out = append(c.out, name...)
	c.colon(from)
}

// rawName writes a name that has escapes where it needs them.
func (c *Conformer) rawName(name []byte) {
	from := c.quote()
	c.out = append(c.out, name...)
	c.colon(from)
}

func (c *Conformer) quote() (from int) {
	c.comma()
	c.out = append(c.out, '"')
	return len(c.out)
}

func (c *Conformer) colon(from int) {
	to := len(c.out)
	c.out = append(c.out, '"', ':')
	c.tree.due(from, to, to+2)
}

// begin opens an object or a list, by its first byte, for end to close.
func (c *Conformer) begin(kind byte) int32 {
	c.out = append(c.out, kind)
	return c.tree.begin(kind)
}

func (c *Conformer) end(at int32) {
	n := &c.tree.nodes[at]
	c.out = append(c.out, n.kind+2) // in ASCII } is { + 2, and ] is [ + 2
	n.text[1] = int32(len(c.out))
}

// quoted writes a text.
func (c *Conformer) quoted(text string) {
	c.out = appendQuoted(c.out, text)
	c.tree.value(c.out, len(c.out) != int(c.tree.from)+len(text)+2)
}

// digits writes a number as it is.
func (c *Conformer) digits(literal string) {
	c.out = append(c.out, literal...)
	c.tree.scalar('0', len(c.out))
}

// number writes an integer.
func (c *Conformer) number(i int64) {
	c.out = strconv.AppendInt(c.out, i, 10)
	c.tree.scalar('0', len(c.out))
}

// wrote notes the value that was written since it was due.
func (c *Conformer) wrote() { c.tree.value(c.out, true) }

// appendQuoted appends a text as JSON.
func appendQuoted[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	return append(appendEscaped(dst, s), '"')
}

// appendEscaped appends a text as it stands between quotes.
func appendEscaped[T string | []byte](dst []byte, s T) []byte {
	const digits = "0123456789abcdef"
	done := 0
	for i := range len(s) {
		b := s[i]
		if b >= ' ' && b != '"' && b != '\\' {
			continue
		}
		dst = append(dst, s[done:i]...)
		if b == '"' || b == '\\' {
			dst = append(dst, '\\', b)
		} else {
			dst = append(dst, '\\', 'u', '0', '0', digits[b>>4], digits[b&15])
		}
		done = i + 1
	}
	return append(dst, s[done:]...)
}
