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
