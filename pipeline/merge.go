package pipeline

// merge puts what the source gives into the order of event time: the split whose mark is
// lowest is next, and where nothing of it has come yet everything waits for it. Splits that
// are read at different speeds then neither keep windows open nor make each other's rows
// wait, and what is held is what the source gives before it heeds a pause. It is for bounded
// sources, where every split has a next row or an end; and like all order between splits it
// decides nothing.
type merge struct {
	mark   func(split int32) int64
	queues [][]*decoded // by split
	over   []bool       // the split has given its end
}

// mergeAhead is how many events of a split may wait before no more of it is read.
const mergeAhead = 4

func newMerge(mark func(int32) int64) *merge { return &merge{mark: mark} }

// grow makes room for n splits.
func (m *merge) grow(n int) {
	for n > len(m.queues) {
		m.queues, m.over = append(m.queues, nil), append(m.over, false)
	}
}

// push takes the next event of a split.
func (m *merge) push(split int32, d *decoded) { m.queues[split] = append(m.queues[split], d) }

// pop returns the event that is next, nil when that has not come yet.
func (m *merge) pop() *decoded {
	next := -1
	var lowest int64
	for i := range m.queues {
		if m.over[i] {
			continue
		}
		if mark := m.mark(int32(i)); next < 0 || mark < lowest {
			next, lowest = i, mark
		}
	}
	if next < 0 || len(m.queues[next]) == 0 {
		return nil
	}
	d := m.queues[next][0]
	m.queues[next][0] = nil
	m.queues[next] = m.queues[next][1:]
	m.over[next] = d.ev.Kind == EndOfSplit
	return d
}

// ahead tells whether enough of a split waits.
func (m *merge) ahead(split int32) bool { return len(m.queues[split]) >= mergeAhead }

// drop gives back what waits.
func (m *merge) drop() {
	for _, q := range m.queues {
		for _, d := range q {
			<-d.done
			d.release()
		}
	}
	m.queues = nil
}
