package ocsf

import "strconv"

// trail is the dotted path of what is being looked at, a.b[2].c.
type trail struct{ path []byte }

// enter appends a member to the path and returns what leave needs.
func (t *trail) enter(name string) int { return enter(t, name) }

// enterBytes is enter.
func (t *trail) enterBytes(name []byte) int { return enter(t, name) }

func enter[T string | []byte](t *trail, name T) int {
	n := len(t.path)
	if n > 0 {
		t.path = append(t.path, '.')
	}
	t.path = append(t.path, name...)
	return n
}

func (t *trail) enterElement(i int) int {
	n := len(t.path)
	t.path = append(t.path, '[')
	t.path = strconv.AppendInt(t.path, int64(i), 10)
	t.path = append(t.path, ']')
	return n
}

func (t *trail) leave(n int) { t.path = t.path[:n] }

// way is a trail that becomes text only when there is something to say: most values of a record
// go where they belong.
type way struct{ turns []turn }

// turn is a member by name, or else with its name in the document (to > 0), or an element (-1).
type turn struct {
	name     string
	from, to int32
}

// enter goes to a member and returns what leave needs.
func (w *way) enter(name string) int { return w.turn(turn{name: name}) }

// enterMember is enter for a member of the document.
func (w *way) enterMember(n *node) int { return w.turn(turn{from: n.name[0], to: n.name[1]}) }

func (w *way) enterElement(i int) int { return w.turn(turn{from: int32(i), to: -1}) }

func (w *way) turn(t turn) int {
	w.turns = append(w.turns, t)
	return len(w.turns) - 1
}

func (w *way) leave(n int) { w.turns = w.turns[:n] }

// appendPath appends the way as text; names of the document stay as they are written there.
func (w *way) appendPath(dst []byte, doc []byte) []byte {
	t := trail{dst[len(dst):]} // in the room behind dst, if there is enough
	for _, turn := range w.turns {
		switch {
		case turn.to < 0:
			t.enterElement(int(turn.from))
		case turn.to > 0:
			t.enterBytes(doc[turn.from:turn.to])
		default:
			t.enter(turn.name)
		}
	}
	return append(dst, t.path...)
}
