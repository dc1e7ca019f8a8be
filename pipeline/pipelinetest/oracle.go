package pipelinetest

import "math/big"

// Oracle is the plain version of a tumbling window: one row at a time, one map, the
// rules of time written out once more. It shares no code with the engine.
type Oracle struct {
	Size, Offset, Lateness, Bound int64

	marks map[int32]*big.Int
	Wins  map[OracleWindow]*OracleValue
	Late  []Row
}

// OracleWindow is a key and a window start.
type OracleWindow struct {
	Key   string
	Start int64
}

// OracleValue is what a window holds.
type OracleValue struct {
	Count, Sum, Min, Max, First, Last, LateCount int64
	first, last                                  Row
}

// Add takes the next row of its split: rows of one split come in offset order.
func (o *Oracle) Add(r Row) {
	if o.Wins == nil {
		o.marks, o.Wins = map[int32]*big.Int{}, map[OracleWindow]*OracleValue{}
	}
	t := big.NewInt(r.Time)
	size := big.NewInt(o.Size)
	// start = t - (t - offset) mod size, with the Euclidean remainder
	rem := new(big.Int).Mod(new(big.Int).Sub(t, big.NewInt(o.Offset)), size)
	start := new(big.Int).Sub(t, rem)
	end1 := new(big.Int).Add(start, new(big.Int).Sub(size, big.NewInt(1)))
	mark := o.marks[r.Split]
	moved := new(big.Int).Sub(t, big.NewInt(o.Bound+1))
	defer func() {
		if mark == nil || moved.Cmp(mark) > 0 {
			o.marks[r.Split] = moved
		}
	}()
	if mark != nil && new(big.Int).Add(end1, big.NewInt(o.Lateness)).Cmp(mark) <= 0 {
		o.Late = append(o.Late, r)
		return
	}
	at := OracleWindow{r.Key, start.Int64()}
	v := o.Wins[at]
	if v == nil {
		v = &OracleValue{Min: r.Value, Max: r.Value, first: r, last: r, First: r.Value, Last: r.Value}
		o.Wins[at] = v
	}
	v.Count++
	v.Sum += r.Value
	v.Min, v.Max = min(v.Min, r.Value), max(v.Max, r.Value)
	if before(r, v.first) {
		v.first, v.First = r, r.Value
	}
	if before(v.last, r) {
		v.last, v.Last = r, r.Value
	}
	if mark != nil && end1.Cmp(mark) <= 0 {
		v.LateCount++
	}
}

// before orders rows by event time, split and offset.
func before(a, b Row) bool {
	if a.Time != b.Time {
		return a.Time < b.Time
	}
	if a.Split != b.Split {
		return a.Split < b.Split
	}
	return a.Offset < b.Offset
}
