package mapping

// trie is all locators of a file as one tree of names, so that an event is walked once and
// not once for each locator. Step 0 is the event.
type trie struct {
	steps []step
}

// step is a name on the way of some locator.
type step struct {
	parent int32
	name   string
	next   []int32 // steps by hash of the name, 0 for none; a power of two, at most half taken
	inner  int     // how many there are
}

// add returns the step at the end of a locator.
func (t *trie) add(parts []string) int32 {
	at := int32(0)
	for _, part := range parts {
		next := t.find(at, []byte(part))
		if next == 0 {
			next = int32(len(t.steps))
			t.steps = append(t.steps, step{parent: at, name: part})
			t.steps[at].inner++
			t.rehash(at)
		}
		at = next
	}
	return at
}

// rehash puts the steps behind one into its table.
func (t *trie) rehash(at int32) {
	s := &t.steps[at]
	size := 4
	for size < 2*s.inner {
		size *= 2
	}
	s.next = make([]int32, size)
	for i := range t.steps[1:] {
		if t.steps[i+1].parent != at {
			continue
		}
		h := hashName([]byte(t.steps[i+1].name))
		for s.next[h&uint32(size-1)] != 0 {
			h++
		}
		s.next[h&uint32(size-1)] = int32(i + 1)
	}
}

// find returns the step behind another one with that name, 0 for none.
func (t *trie) find(at int32, name []byte) int32 {
	next := t.steps[at].next
	if len(next) == 0 {
		return 0
	}
	for h := hashName(name); ; h++ {
		i := next[h&uint32(len(next)-1)]
		if i == 0 || t.steps[i].name == string(name) {
			return i
		}
	}
}

func hashName(name []byte) uint32 {
	n := len(name)
	if n == 0 {
		return 0
	}
	h := uint32(n)*0x9e3779b1 ^ uint32(name[0])*0x85ebca6b ^ uint32(name[n-1])*0xc2b2ae35 ^ uint32(name[n/2])*0x27d4eb2f
	return h >> 16
}

// walk finds the nodes of all steps behind one, which is at object n. Of members with one
// name the last counts.
func (t *trie) walk(d *document, found []int32, at, n int32) {
	for c := d.nodes[n].first; c != 0; c = d.nodes[c].next {
		if i := t.find(at, d.bytes(d.nodes[c].name)); i != 0 {
			found[i] = c
		}
	}
	for _, i := range t.steps[at].next {
		if i != 0 && found[i] > 0 && t.steps[i].inner > 0 && d.nodes[found[i]].kind == object {
			t.walk(d, found, i, found[i])
		}
	}
}
