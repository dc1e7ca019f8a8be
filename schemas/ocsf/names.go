package ocsf

import (
	"encoding/binary"
	"math/bits"
)

// nameTable finds attributes by name: what a map does, in a fraction of the time, since the
// names are few, short and known.
type nameTable struct {
	slots []nameSlot // a power of two, at most half of them taken
}

type nameSlot struct {
	name string
	at   int32
}

func newNameTable(attrs []attr) nameTable {
	t := nameTable{make([]nameSlot, 2<<bits.Len(uint(len(attrs))))}
	for i := range attrs {
		h := t.first([]byte(attrs[i].name))
		for t.slots[h].name != "" {
			h = (h + 1) & uint64(len(t.slots)-1)
		}
		t.slots[h] = nameSlot{attrs[i].name, int32(i)}
	}
	return t
}

// find returns the attribute with that name, -1 for none.
func (t *nameTable) find(name []byte) int32 {
	for h := t.first(name); t.slots[h].name != ""; h = (h + 1) & uint64(len(t.slots)-1) {
		if t.slots[h].name == string(name) {
			return t.slots[h].at
		}
	}
	return -1
}

// first returns the slot where a name is looked for first: it mixes the bytes at both ends.
func (t *nameTable) first(name []byte) uint64 {
	h := uint64(len(name))
	switch n := len(name); {
	case n >= 8:
		h += binary.LittleEndian.Uint64(name)*0x9e3779b97f4a7c15 ^ binary.LittleEndian.Uint64(name[n-8:])
	case n >= 4:
		h += uint64(binary.LittleEndian.Uint32(name))<<32 | uint64(binary.LittleEndian.Uint32(name[n-4:]))
	default:
		for _, c := range name {
			h = h<<8 | uint64(c)
		}
	}
	h *= 0xd6e8feb86659fd93
	return (h >> 32) & uint64(len(t.slots)-1)
}

// guesses remember which attribute each node of the last document was: events of one source have
// the same members in the same order, so that one comparison mostly says what a name is.
type guesses []int32

// reset makes room for the nodes of a document.
func (g *guesses) reset(nodes int) {
	for len(*g) < nodes {
		*g = append(*g, 0)
	}
}

// find is that of the item's names, for the name of a node.
func (g guesses) find(it *item, node int32, name []byte) int32 {
	if at := g[node]; int(at) < len(it.attrs) && it.attrs[at].name == string(name) {
		return at
	}
	at := it.names.find(name)
	g[node] = max(at, 0)
	return at
}
