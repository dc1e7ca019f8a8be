package schemas

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// node is a place in the payload that the fields look at: an object with some members,
// an array with some elements, or the value of a column. Exactly one of keys, elems and
// column is set.
type node struct {
	path string
	seen uint64 // the last payload that had it

	keys  []key            // object: wanted names first, then the learned ones
	names map[string]int32 // object: index in keys of the wanted names
	known int              // object: number of wanted names
	first int32            // object: index of the key that came first last time

	elems []*node // array: by index, nil for elements that nobody wants

	column int // leaf: index of the column
}

func (n *node) isObject() bool { return n.keys != nil }
func (n *node) isArray() bool  { return n.elems != nil }

// maxLearned bounds the unknown names that an object remembers, so that they are passed
// over as fast as wanted ones. Names that come later are looked up in the map.
const maxLearned = 32

// maxLearnedBytes bounds the length of a learned name.
const maxLearnedBytes = 64

// key is a name as it stands in a payload, with the quote behind it. The first 16 bytes
// are kept as two words and masks: two loads compare them.
type key struct {
	w0, w1, m0, m1 uint64
	quoted         string
	next           int32 // index of the key that followed last time
	node           *node // nil: skipped
}

func newKey(name string, n *node) key {
	k := key{quoted: name + `"`, node: n}
	var text, mask [16]byte
	for i := range copy(text[:], k.quoted) {
		mask[i] = 0xff
	}
	k.w0, k.w1 = binary.LittleEndian.Uint64(text[:]), binary.LittleEndian.Uint64(text[8:])
	k.m0, k.m1 = binary.LittleEndian.Uint64(mask[:]), binary.LittleEndian.Uint64(mask[8:])
	return k
}

// long compares what is behind the first 16 bytes.
func (k *key) long(b []byte, p int) bool {
	n := len(k.quoted)
	return n <= 16 || p+n <= len(b) && string(b[p+16:p+n]) == k.quoted[16:]
}

func (n *node) addKey(name string, child *node) {
	if n.names == nil {
		n.names = map[string]int32{}
	}
	n.names[name] = int32(len(n.keys))
	n.keys = append(n.keys, newKey(name, child))
	n.known = len(n.keys)
	// The guess is that names come in the order of the fields, again and again.
	for i := range n.keys {
		n.keys[i].next = int32((i + 1) % n.known)
	}
}

// learn remembers a name that nobody wants and returns its index, -1 when it is not kept.
// The name is the text between the quotes and holds no escapes.
func (n *node) learn(name []byte) int32 {
	if len(n.keys) >= n.known+maxLearned || len(name) > maxLearnedBytes {
		return -1
	}
	n.keys = append(n.keys, newKey(string(name), nil))
	return int32(len(n.keys) - 1)
}

// buildTree arranges the paths of fields under the top level object.
func buildTree(fields []Field) (*node, error) {
	root := &node{path: "$"}
	var errs []error
	for i, f := range fields {
		steps, err := parsePath(f.Path)
		if err == nil {
			err = root.place(steps, i)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("field %q: %w", f.Name, err))
		}
	}
	return root, errors.Join(errs...)
}

func (n *node) place(steps []step, column int) error {
	for i, s := range steps {
		if (s.index >= 0 && n.isObject()) || (s.index < 0 && n.isArray()) {
			return fmt.Errorf("%s is an array for one field and an object for another", n.path)
		}
		var child *node
		if s.index >= 0 {
			if s.index < len(n.elems) {
				child = n.elems[s.index]
			}
		} else if at, ok := n.names[s.name]; ok {
			child = n.keys[at].node
		}
		last := i == len(steps)-1
		if child != nil {
			leaf := !child.isObject() && !child.isArray()
			if leaf && last {
				return fmt.Errorf("%s is read by another field already", child.path)
			}
			if leaf || last {
				return fmt.Errorf("%s is a value for one field and holds values for another", child.path)
			}
			n = child
			continue
		}
		child = &node{path: n.path + pathStep(s), column: column}
		if s.index >= 0 {
			for len(n.elems) <= s.index {
				n.elems = append(n.elems, nil)
			}
			n.elems[s.index] = child
		} else {
			n.addKey(s.name, child)
		}
		n = child
	}
	return nil
}

func pathStep(s step) string {
	switch {
	case s.index >= 0:
		return fmt.Sprintf("[%d]", s.index)
	case strings.ContainsAny(s.name, ".["):
		return "['" + s.name + "']"
	}
	return "." + s.name
}
