package main

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

// disorder says how a stream of events, in event-time order, arrives.
type disorder struct {
	Within    time.Duration // most events are late by up to this much
	Late      float64       // share that is later than Within, by up to LateBy more
	LateBy    time.Duration
	Duplicate float64 // share sent twice
	Future    float64 // share whose clock is a day ahead
	Malformed float64 // share whose payload is cut short
}

// A message is one record on its way to a topic: Arrive is when the broker gets it, in the
// time of the events.
type message struct {
	Event, Arrive time.Time
	Key, Value    []byte
	seq           int
}

// telemetry is an endless or finite stream of messages in order of arrival, the same for
// the same seed.
type telemetry struct {
	next    func() (message, bool) // in order of event time
	how     disorder
	rng     *rand.Rand
	pending arrivals
	clock   time.Time // event time of the newest message taken from next
	broker  time.Time // when the last message arrived
	ended   bool
	seq     int
}

func newTelemetry(seed uint64, how disorder, next func() (message, bool)) *telemetry {
	return &telemetry{next: next, how: how, rng: rand.New(rand.NewPCG(seed, 0x71de))}
}

// Next returns the message that arrives next.
func (t *telemetry) Next() (message, bool) {
	for !t.ended && (len(t.pending) == 0 || t.pending[0].Arrive.After(t.clock)) {
		m, ok := t.next()
		if !ok {
			t.ended = true
			break
		}
		if m.Event.After(t.clock) {
			t.clock = m.Event
		}
		t.delay(m)
	}
	if len(t.pending) == 0 {
		return message{}, false
	}
	m := heap.Pop(&t.pending).(message)
	if m.Arrive.Before(t.broker) { // it is out of order in the file: the broker got it after the one before
		m.Arrive = t.broker
	}
	t.broker = m.Arrive
	return m, true
}

func (t *telemetry) delay(m message) {
	by := time.Duration(t.rng.Int64N(int64(t.how.Within) + 1))
	if t.rng.Float64() < t.how.Late {
		by = t.how.Within + time.Duration(t.rng.Int64N(int64(t.how.LateBy)+1))
	}
	m.Arrive = m.Event.Add(by)
	m.seq = t.seq
	t.seq++
	if t.rng.Float64() < t.how.Malformed && len(m.Value) > 1 {
		m.Value = m.Value[:1+t.rng.IntN(len(m.Value)-1)]
	}
	heap.Push(&t.pending, m)
	if t.rng.Float64() < t.how.Duplicate {
		m.Arrive = m.Arrive.Add(time.Duration(t.rng.Int64N(int64(time.Second))))
		m.seq = t.seq
		t.seq++
		heap.Push(&t.pending, m)
	}
}

type arrivals []message

func (a arrivals) Len() int { return len(a) }
func (a arrivals) Less(i, j int) bool {
	if !a[i].Arrive.Equal(a[j].Arrive) {
		return a[i].Arrive.Before(a[j].Arrive)
	}
	return a[i].seq < a[j].seq
}
func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)   { *a = append(*a, x.(message)) }
func (a *arrivals) Pop() any {
	old := *a
	m := old[len(old)-1]
	*a = old[:len(old)-1]
	return m
}

// generator makes the events of one feed in order of event time: devices take turns, so
// that each reports once per period.
type generator struct {
	rng     *rand.Rand
	start   time.Time
	period  time.Duration
	devices int
	how     disorder
	n       int
	event   func(g *generator, device int, at time.Time) (key string, value []byte)
	state   []float64
}

// newGenerator returns the generator of a feed, with devices that report once per period.
func newGenerator(feed string, seed uint64, start time.Time, devices int, period time.Duration, how disorder) (*generator, error) {
	g := &generator{rng: rand.New(rand.NewPCG(seed, 0x6e4)), start: start, period: period, devices: devices, how: how, state: make([]float64, devices)}
	switch feed {
	case "ble":
		g.event = bleEvent
	case "pdu":
		g.event = pduEvent
	case "traffic":
		g.event = trafficEvent
	default:
		return nil, fmt.Errorf("feed %q: known are ble, pdu, traffic", feed)
	}
	return g, nil
}

func (g *generator) next() (message, bool) {
	device := g.n % g.devices
	at := g.start.Add(time.Duration(float64(g.period) * float64(g.n) / float64(g.devices)))
	g.n++
	shown := at
	if g.rng.Float64() < g.how.Future {
		shown = at.Add(24 * time.Hour)
	}
	key, value := g.event(g, device, shown)
	return message{Event: at, Key: []byte(key), Value: value}, true
}

// bleEvent is one hearing of a roller cage's tag by a gateway.
func bleEvent(g *generator, device int, at time.Time) (string, []byte) {
	id := fmt.Sprintf("RC-%07d", device)
	gateway := (device/7 + g.rng.IntN(3)) % 60
	return id, fmt.Appendf(nil, `{"asset_id":"%s","gateway_id":"GW-%02d","ts_event":%d,"seq":%d,"rssi_dbm":%d,"tx_power_dbm":-59,"battery_mv":%d,"temp_c":%.2f,"accel_mg":[%d,%d,%d]}`,
		id, gateway, at.UnixMilli(), g.n/g.devices%256, -45-g.rng.IntN(50), 3000-device%400, 18+g.rng.Float64()*6, g.rng.IntN(40)-20, g.rng.IntN(40)-20, 980+g.rng.IntN(40))
}

// pduEvent is one reading of one line of a three-phase PDU.
func pduEvent(g *generator, device int, at time.Time) (string, []byte) {
	pdu, line := device/3, device%3+1
	id := fmt.Sprintf("PDU-R%02d-%c", pdu/2+1, 'A'+pdu%2)
	amps := 9 + 4*math.Sin(float64(at.Unix()%86400)/86400*2*math.Pi) + float64(device%5) + g.rng.Float64()
	watts := amps * 120 * 0.97
	g.state[device] += watts * g.period.Hours() / 1000
	return id, fmt.Appendf(nil, `{"pdu_id":"%s","scope":"line","element":"L%d","feed":"%c","wiring":"delta","ts_device":%d,"v":%.1f,"a":%.3f,"w":%.1f,"pf":0.97,"kwh_total":%.1f,"rated_a":24}`,
		id, line, 'A'+pdu%2, at.UnixMilli(), 206+g.rng.Float64()*4, amps, watts, g.state[device])
}

// trafficEvent is what passed one interface since its last report.
func trafficEvent(g *generator, device int, at time.Time) (string, []byte) {
	entity := "AS" + strconv.Itoa(64500+device)
	day := 0.6 + 0.4*math.Sin(float64(at.Unix()%86400-6*3600)/86400*2*math.Pi)
	in := int64((2e6 + 5e5*float64(device%9)) * day * (0.9 + 0.2*g.rng.Float64()))
	out := in / 3
	return entity, fmt.Appendf(nil, `{"entity":"%s","device":"edge-%d","if_name":"xe-0/0/%d","direction":"inbound","source":"netflow","ts":%d,"bytes":%d,"packets":%d,"bytes_in":%d,"bytes_out":%d,"packets_in":%d,"packets_out":%d,"requests":%d}`,
		entity, device%4+1, device, at.UnixMilli(), in+out, (in+out)/900, in, out, in/900, out/900, in/40000)
}
