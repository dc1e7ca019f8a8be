// Package gen makes the load of the benchmarks: hearings of BLE tags by gateways, in the
// order in which they arrive, the same for the same seed. Randomness is a function of
// counters alone, so that any part can be made anew anywhere, and the expected results
// come from the same functions without reading a topic.
package gen

import (
	"slices"
	"strconv"
)

// Config is a load: Devices tags that together are heard Rate times a second, each ping by
// Heard gateways on average.
type Config struct {
	Seed    uint64
	Devices int
	Rate    int   // events per second of event time
	Heard   int   // mean gateways per ping: events per (device, window) row
	Seconds int   // span of event time
	Start   int64 // Unix ms
}

// Default is the density of a billion events a day from 380,000 tags, heard by four
// gateways each.
func Default() Config {
	return Config{Seed: 42, Devices: 380_000, Rate: 11_574, Heard: 4, Seconds: 900, Start: 1_767_225_600_000}
}

// Event is one hearing.
type Event struct {
	Device  int32
	TS      int64 // Unix ms
	Arrive  int64 // Unix ms
	RSSI    int32
	Gateway int32
	Seq     int32
}

// hash is the finaliser of splitmix64 over counters.
func hash(seed, stream, a, b uint64) uint64 {
	x := seed*0x9E3779B97F4A7C15 + stream
	for _, v := range [2]uint64{a, b} {
		x += v*0xBF58476D1CE4E5B9 + 0x9E3779B97F4A7C15
		x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
		x = (x ^ x>>27) * 0x94D049BB133111EB
		x ^= x >> 31
	}
	return x
}

// period is the time between two pings of a tag, in ms.
func (c Config) period() int64 { return int64(c.Devices) * int64(c.Heard) * 1000 / int64(c.Rate) }

// ping makes the hearings of ping k of a device and hands each to yield.
func (c Config) ping(d int32, k int64, yield func(Event)) {
	p := c.period()
	phase := int64(hash(c.Seed, 1, uint64(d), 0) % uint64(p))
	at := k*p + phase
	if at >= int64(c.Seconds)*1000 {
		return
	}
	id := uint64(d)<<32 | uint64(k)
	heard := 1 + int(hash(c.Seed, 2, id, 0)%uint64(2*c.Heard-1))
	for j := range heard {
		r := hash(c.Seed, 3, id, uint64(j))
		yield(Event{Device: d, TS: c.Start + at + int64(j), Arrive: c.Start + at + int64(j) + delay(hash(c.Seed, 4, id, uint64(j))),
			RSSI: -30 - int32(r%70), Gateway: int32(r >> 8 % 500), Seq: int32(r >> 20 % 60000)})
	}
}

// delay is 78 % up to 2 s, 20 % from 10 to 120 s, 2 % from 120 to 300 s; in ms.
func delay(h uint64) int64 {
	share, u := h%100, int64(h>>8&0xFFFFFFFF)
	switch {
	case share < 78:
		return u % 2000
	case share < 98:
		return 10_000 + u%110_001
	}
	return 120_001 + u%180_000
}

// maxDelay bounds delay, in seconds.
const maxDelay = 301

// Each hands every event to yield in order of arrival, ties by device and time. The slice
// is lent: one second of arrivals.
func (c Config) Each(yield func([]Event) error) error {
	p := c.period()
	// Devices by the second of their phase: the pings of a second are found without a scan.
	bySecond := make([][]int32, p/1000+1)
	for d := range int32(c.Devices) {
		phase := int64(hash(c.Seed, 1, uint64(d), 0) % uint64(p))
		bySecond[phase/1000] = append(bySecond[phase/1000], d)
	}
	wheel := make([][]Event, maxDelay+2)
	put := func(e Event) {
		at := (e.Arrive - c.Start) / 1000 % int64(len(wheel))
		wheel[at] = append(wheel[at], e)
	}
	// k*p is no whole second, so a ping's second is computed, not looked up: a cursor per
	// round walks the phases.
	type round struct{ k, sec int64 }
	next := round{}
	for s := int64(0); s < int64(c.Seconds)+maxDelay+1; s++ {
		for next.k*p+next.sec*1000 <= s*1000 && s <= int64(c.Seconds) {
			for _, d := range bySecond[next.sec] {
				c.ping(d, next.k, put)
			}
			if next.sec++; next.sec == int64(len(bySecond)) {
				next = round{next.k + 1, 0}
			}
		}
		// Pings of phase second x reach up to x+1 s plus a few ms; emit the second before.
		if s == 0 {
			continue
		}
		at := (s - 1) % int64(len(wheel))
		b := wheel[at]
		slices.SortFunc(b, func(a, b Event) int {
			switch {
			case a.Arrive != b.Arrive:
				return int(a.Arrive - b.Arrive)
			case a.Device != b.Device:
				return int(a.Device - b.Device)
			}
			return int(a.TS - b.TS)
		})
		if len(b) > 0 {
			if err := yield(b); err != nil {
				return err
			}
		}
		wheel[at] = b[:0]
	}
	return nil
}

// Key appends the device's id, 12 hexadecimal digits.
func (e Event) Key(b []byte) []byte {
	const digits = "0123456789ABCDEF"
	v := 0xAC2300000000 | uint64(hash(0, 9, uint64(e.Device), 0)&0xFFFF)<<20 | uint64(e.Device)&0xFFFFF
	for i := 44; i >= 0; i -= 4 {
		b = append(b, digits[v>>i&15])
	}
	return b
}

// JSON appends the event as the benchmarks' payload of 110 bytes or so.
func (e Event) JSON(b []byte) []byte {
	b = append(b, `{"device_id":"`...)
	b = e.Key(b)
	b = append(b, `","ts":`...)
	b = strconv.AppendInt(b, e.TS, 10)
	b = append(b, `,"rssi":`...)
	b = strconv.AppendInt(b, int64(e.RSSI), 10)
	b = append(b, `,"battery":`...)
	b = strconv.AppendInt(b, int64(50+e.Device%50), 10)
	b = append(b, `,"temp":`...)
	b = strconv.AppendInt(b, int64(15+e.Seq%10), 10)
	b = append(b, '.', byte('0'+e.Seq%10))
	b = append(b, `,"gw":"GW-`...)
	g := e.Gateway
	b = append(b, byte('0'+g/1000%10), byte('0'+g/100%10), byte('0'+g/10%10), byte('0'+g%10))
	b = append(b, `","seq":`...)
	b = strconv.AppendInt(b, int64(e.Seq), 10)
	return append(b, '}')
}

// Totals are the expected results of windows of 10 s by device, summed over all.
type Totals struct {
	Events, Rows         int64
	Sum, Min, Max, Count int64
	// Behind counts events below the running maximum of event time, FarBehind those more
	// than 120 s below, Closable those in a window that a mark of 120 s had completed.
	Behind, FarBehind, Closable int64
}

// Expect computes the totals straight from the generator.
func (c Config) Expect() Totals {
	type acc struct{ count, sum, min, max int64 }
	rows := map[uint64]acc{}
	var t Totals
	newest := int64(-1 << 62)
	_ = c.Each(func(es []Event) error {
		for _, e := range es {
			t.Events++
			w := e.TS / 10_000
			if e.TS < newest {
				t.Behind++
			}
			if e.TS < newest-120_000 {
				t.FarBehind++
			}
			if w*10_000+9_999 <= newest-120_000-1 {
				t.Closable++
			}
			newest = max(newest, e.TS)
			k := uint64(e.Device)<<32 | uint64(w-c.Start/10_000)
			a, ok := rows[k]
			if !ok {
				a = acc{min: 1 << 62, max: -1 << 62}
			}
			a.count++
			a.sum += int64(e.RSSI)
			a.min, a.max = min(a.min, int64(e.RSSI)), max(a.max, int64(e.RSSI))
			rows[k] = a
		}
		return nil
	})
	t.Rows = int64(len(rows))
	for _, a := range rows {
		t.Count += a.count
		t.Sum += a.sum
		t.Min += a.min
		t.Max += a.max
	}
	return t
}
