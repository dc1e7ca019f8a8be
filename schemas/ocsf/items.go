package ocsf

// Item is an object that the lists of an attribute may have.
type Item struct {
	// Present tells which rows have it in their list; nil means all.
	Present func(row int) bool
	// Of are its members: Fixed texts, Int32, Float64 or Text, and of one type in all items.
	Of []Attr
}

// ListOf is an attribute that holds in every row a list of those items that the row has,
// in the order given. The objects have the members of all items; one that its own item
// lacks is null.
func ListOf(name string, of ...Item) Attr {
	l := &items{of: of}
	a := Attr{Name: name, items: l}
	seen := map[string]bool{}
	for _, item := range of {
		for _, member := range item.Of {
			if !seen[member.Name] {
				seen[member.Name] = true
				a.Of = append(a.Of, l.member(member.Name))
			}
		}
	}
	return a
}

// items are the objects that lists may have, and where the objects of a batch come from.
type items struct {
	of   []Item
	at   []place // of every object of the batch
	ends []int32 // where the list of every row ends, with a 0 in front
}

// place is the row and the item that an object comes from.
type place struct{ row, item int32 }

// place finds the objects of n rows and returns how many there are.
func (l *items) place(n int) int {
	l.at, l.ends = l.at[:0], append(l.ends[:0], 0)
	for row := range n {
		for i := range l.of {
			if p := l.of[i].Present; p == nil || p(row) {
				l.at = append(l.at, place{int32(row), int32(i)})
			}
		}
		l.ends = append(l.ends, int32(len(l.at)))
	}
	return len(l.at)
}

// member is a member of the objects. What functions of an Attr call a row is the number of
// the object here; the members of items get the row that it comes from.
func (l *items) member(name string) Attr {
	from := make([]*Attr, len(l.of))
	a := Attr{Name: name, Required: true}
	var kind *Attr
	for i := range l.of {
		for m := range l.of[i].Of {
			if member := &l.of[i].Of[m]; member.Name == name {
				from[i], kind = member, member
			}
		}
		a.Required = a.Required && from[i] != nil && (from[i].Fixed != nil || from[i].Required)
	}
	switch {
	case kind.Int32 != nil:
		a.Int32 = func(i int) (int32, bool) {
			if m := from[l.at[i].item]; m != nil {
				return m.Int32(int(l.at[i].row))
			}
			return 0, false
		}
	case kind.Float64 != nil:
		a.Float64 = func(i int) (float64, bool) {
			if m := from[l.at[i].item]; m != nil {
				return m.Float64(int(l.at[i].row))
			}
			return 0, false
		}
	default:
		a.Text = func(dst []byte, i int) ([]byte, bool) {
			switch m := from[l.at[i].item]; {
			case m == nil:
				return dst, false
			case m.Fixed != nil:
				return append(dst, m.Fixed.(string)...), true
			default:
				return m.Text(dst, int(l.at[i].row))
			}
		}
	}
	return a
}
