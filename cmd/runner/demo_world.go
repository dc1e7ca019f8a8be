package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// site is a place of the demo's world between which cages travel.
type site struct {
	id, name, kind string
	lat, lon       float64
}

func demoSites() []site {
	return []site{
		{"amsterdam", "Amsterdam", "depot", 52.3702, 4.8952},
		{"rotterdam", "Rotterdam", "depot", 51.9244, 4.4777},
		{"utrecht", "Utrecht", "hub", 52.0907, 5.1214},
		{"denbosch", "Den Bosch", "depot", 51.6978, 5.3037},
		{"apeldoorn", "Apeldoorn", "shop", 52.2112, 5.9699},
	}
}

const (
	demoCages   = 80
	cagePeriod  = 30 * time.Second // between two hearings of a cage
	truckSpeed  = 22.0             // m/s
	metresOfLat = 111195.0         // of a degree
	demoTrucks  = 6
)

// demoFences is the GeoJSON of the sites: circles, and a yard with a hole.
func demoFences() string {
	var f []string
	for _, s := range demoSites() {
		if s.kind == "hub" {
			f = append(f, fmt.Sprintf(`{"type":"Feature","properties":{"id":%q,"name":%q,"kind":%q},"geometry":{"type":"Polygon","coordinates":[%s,%s]}}`,
				s.id, s.name, s.kind, s.ring(0, 600, 6), s.ring(200, 60, 4)))
			continue
		}
		f = append(f, fmt.Sprintf(`{"type":"Feature","properties":{"id":%q,"name":%q,"kind":%q,"radius_m":500},"geometry":{"type":"Point","coordinates":[%.6f,%.6f]}}`,
			s.id, s.name, s.kind, s.lon, s.lat))
	}
	return "{\"type\":\"FeatureCollection\",\"features\":[\n" + strings.Join(f, ",\n") + "\n]}\n"
}

// ring is a regular polygon whose centre is some metres to the north of a site.
func (s site) ring(north, metres float64, corners int) string {
	var p []string
	for i := range corners + 1 {
		a := 2 * math.Pi * float64(i%corners) / float64(corners)
		lat, lon := s.offset(north+metres*math.Sin(a), metres*math.Cos(a))
		p = append(p, fmt.Sprintf("[%.6f,%.6f]", lon, lat))
	}
	return "[" + strings.Join(p, ",") + "]"
}

// offset is the position some metres to the north and east of a site.
func (s site) offset(north, east float64) (lat, lon float64) {
	return s.lat + north/metresOfLat, s.lon + east/metresOfLat/math.Cos(s.lat*math.Pi/180)
}

// demoGateways is the CSV of the gateways: one at each site, one in each truck.
func demoGateways() string {
	var b strings.Builder
	b.WriteString("gateway_id,site,lat,lon,vehicle\n")
	for _, s := range demoSites() {
		fmt.Fprintf(&b, "gw-%s,%s,%.6f,%.6f,false\n", s.id, s.id, s.lat, s.lon)
	}
	for i := range demoTrucks {
		fmt.Fprintf(&b, "truck-%d,,,,true\n", i+1)
	}
	return b.String()
}

// cage is a roller cage on its rounds.
type cage struct {
	from, to    site
	truck       int
	leaves      time.Time
	arrives     time.Time // the end of the way
	leavesNext  time.Time // of the site where it arrives
	north, east float64   // its place at a site, in metres
	seq         int
	folded      bool
	battery     int
}

// cages makes the hearings of cages that travel between sites.
type cages struct {
	rng   *rand.Rand
	start time.Time
	list  []cage
	n     int
}

func newCages(seed uint64, start time.Time) *cages {
	c := &cages{rng: rand.New(rand.NewPCG(seed, 0xca6e)), start: start}
	sites := demoSites()
	for i := range demoCages {
		at := sites[i%len(sites)]
		g := cage{from: at, to: at, leaves: start.Add(-time.Hour), arrives: start.Add(-time.Hour), battery: 2950 + c.rng.IntN(150)}
		g.leavesNext = start.Add(time.Duration(c.rng.IntN(50)) * time.Minute)
		c.settle(&g)
		c.list = append(c.list, g)
	}
	return c
}

// settle gives a cage its place at a site.
func (c *cages) settle(g *cage) {
	g.north, g.east = 80+c.rng.Float64()*160, c.rng.Float64()*240-120
	g.folded = g.to.kind == "depot" && c.rng.IntN(2) == 0
}

// depart sends a cage on its way.
func (c *cages) depart(g *cage, at time.Time) {
	sites := demoSites()
	next := sites[c.rng.IntN(len(sites))]
	if next.id == g.to.id {
		next = sites[(c.rng.IntN(len(sites)-1)+indexOfSite(sites, next)+1)%len(sites)]
	}
	g.from, g.to, g.leaves, g.truck = g.to, next, at, 1+c.rng.IntN(demoTrucks)
	north, east := (g.to.lat-g.from.lat)*metresOfLat, (g.to.lon-g.from.lon)*metresOfLat*math.Cos(g.from.lat*math.Pi/180)
	g.arrives = at.Add(time.Duration(math.Hypot(north, east) / truckSpeed * float64(time.Second)))
	g.leavesNext = g.arrives.Add(time.Duration(15+c.rng.IntN(45)) * time.Minute)
}

func indexOfSite(sites []site, s site) int {
	for i := range sites {
		if sites[i].id == s.id {
			return i
		}
	}
	return 0
}

// next is the next hearing, in order of event time.
func (c *cages) next() (message, bool) {
	i := c.n % demoCages
	at := c.start.Add(cagePeriod * time.Duration(c.n) / demoCages)
	c.n++
	g := &c.list[i]
	g.seq++
	if at.After(g.leavesNext) {
		c.depart(g, at)
	}
	if at.After(g.arrives) && g.from.id != g.to.id {
		g.from = g.to
		c.settle(g)
	}
	id := fmt.Sprintf("RC-%04d", i+1)
	lat, lon := g.to.offset(g.north, g.east)
	gateway, rssi, speed, accel := "gw-"+g.to.id, -58-c.rng.IntN(14), 0.0, [3]int{0, 0, 1000}
	if g.folded {
		accel = [3]int{985, 0, 174}
	}
	if at.Before(g.arrives) {
		share := at.Sub(g.leaves).Seconds() / g.arrives.Sub(g.leaves).Seconds()
		bow := math.Sin(share*math.Pi) * 0.03 // roads are not straight
		lat, lon = g.from.lat+(g.to.lat-g.from.lat)*share+bow*float64(i%3-1), g.from.lon+(g.to.lon-g.from.lon)*share+bow*float64(i%2)
		gateway, rssi, speed, accel = fmt.Sprintf("truck-%d", g.truck), -48-c.rng.IntN(8), truckSpeed, [3]int{c.rng.IntN(300) - 150, c.rng.IntN(300) - 150, 1000}
	}
	jitter := func() float64 { return (c.rng.Float64() - .5) * 10 / metresOfLat }
	value := fmt.Appendf(nil, `{"asset_id":%q,"gateway_id":%q,"ts_event":%d,"seq":%d,"rssi_dbm":%d,"tx_power_dbm":-59,"battery_mv":%d,"temp_c":%.2f,"accel_mg":[%d,%d,%d],"gps":{"lat":%.6f,"lon":%.6f,"acc_m":8,"speed_mps":%.1f}}`,
		id, gateway, at.UnixMilli(), g.seq%256, rssi, g.battery, 12+c.rng.Float64(), accel[0], accel[1], accel[2], lat+jitter(), lon+jitter(), speed)
	return message{Event: at, Key: []byte(id), Value: value}, true
}

const (
	demoRacks   = 4
	rackPeriod  = 10 * time.Second
	branchesOf  = 3
	rackRated   = 24
	rackBreaker = 20
)

// demoInventory is the YAML of the racks: two feeds each.
func demoInventory() string {
	var b strings.Builder
	b.WriteString("pdus:\n")
	for r := range demoRacks {
		for _, feed := range "AB" {
			fmt.Fprintf(&b, "  - {id: R%02d-%c, name: rack %d feed %c, feed: %c, group: R%02d, wiring: delta, volts: 208, line_a: %d, breaker_a: %d}\n",
				r+1, feed, r+1, feed, feed, r+1, rackRated, rackBreaker)
		}
	}
	return b.String()
}

// racks makes the readings of the branches of PDUs. Rack 2 draws more and more until its lines
// are over their rating, then less; feed A of rack 3 fails for a while.
type racks struct {
	rng   *rand.Rand
	start time.Time
	n     int
}

func newRacks(seed uint64, start time.Time) *racks {
	return &racks{rng: rand.New(rand.NewPCG(seed, 0x9ac)), start: start}
}

func (k *racks) next() (message, bool) {
	all := demoRacks * 2 * branchesOf
	i, step := k.n%all, k.n/all
	at := k.start.Add(rackPeriod * time.Duration(step)) // all of an instant
	k.n++
	rack, feed, branch := i/(2*branchesOf), i/branchesOf%2, i%branchesOf
	minute := at.Sub(k.start).Minutes()
	watts := (980 + 120*float64(branch) - 60*float64(rack)) * (0.92 + 0.06*math.Sin(minute/7+float64(rack)) + 0.02*k.rng.Float64())
	if cycle := math.Mod(minute, 40); rack == 1 && cycle > 8 && cycle < 24 { // it is put to work
		watts *= 1 + 1.3*math.Sin((cycle-8)/16*math.Pi)
	}
	if cycle := math.Mod(minute, 40); rack == 2 && cycle > 14 && cycle < 22 { // feed A is gone
		watts *= 2 * float64(feed)
	}
	id, volts := fmt.Sprintf("R%02d-%c", rack+1, "AB"[feed]), 208.0
	value := fmt.Appendf(nil, `{"pdu_id":%q,"scope":"branch","element":%q,"feed":"%c","wiring":"delta","ts_device":%d,"v":%.1f,"a":%.3f,"w":%.1f,"pf":1,"rated_a":%d}`,
		id, [...]string{"L12", "L23", "L31"}[branch], "AB"[feed], at.UnixMilli(), volts, watts/volts, watts, rackBreaker)
	return message{Event: at, Key: []byte(id), Value: value}, true
}

const (
	volumePeriod = 5 * time.Minute
	volumeDays   = 30 // of history before the first row
)

// network is a place or an autonomous system of the demo, with its outages.
type network struct {
	entity  string
	bytes   float64 // in a quarter of an hour, at noon
	outages []outageOf
}

// outageOf is a part of what passes that is missing for some time after the start.
type outageOf struct {
	from, to time.Duration
	part     float64
	signals  []string
}

func demoNetworks() []network {
	both, one := []string{"http", "netflow"}, []string{"netflow"}
	return []network{
		{"AS64501", 8e9, []outageOf{{2 * time.Hour, 6 * time.Hour, .93, both}}},
		{"AS64502", 3e9, nil},
		{"AS64503", 5e9, []outageOf{{4 * time.Hour, 5 * time.Hour, .7, one}}},
		{"NL", 4e10, []outageOf{{9 * time.Hour, 16 * time.Hour, .55, both}}},
		{"PT", 1.2e10, nil},
	}
}

// passed is what passes in a quarter of an hour about a time, when nothing is wrong: days have a
// shape, weekends are quieter, and no two are alike.
func (n network) passed(signal string, at time.Time) float64 {
	hour := float64(at.Hour()) + float64(at.Minute())/60
	day := .72 + .28*math.Sin((hour-9)/24*2*math.Pi)
	if w := at.Weekday(); w == time.Saturday || w == time.Sunday {
		day *= .8
	}
	if signal == "http" {
		day *= .6
	}
	rng := rand.New(rand.NewPCG(uint64(at.Unix()/int64(volumePeriod.Seconds())), uint64(len(n.entity))<<32|uint64(n.entity[len(n.entity)-1])<<8|uint64(len(signal))))
	return n.bytes * day * (.96 + .08*rng.Float64())
}

// left is the part that an outage leaves of it.
func (n network) left(signal string, since time.Duration) float64 {
	for _, o := range n.outages {
		for _, s := range o.signals {
			if s == signal && since >= o.from && since < o.to {
				return 1 - o.part
			}
		}
	}
	return 1
}

// demoHistory is the CSV of the volumes before the demo begins.
func demoHistory(start time.Time) string {
	var b strings.Builder
	b.WriteString("ts,entity,signal,value\n")
	for _, n := range demoNetworks() {
		for _, signal := range []string{"http", "netflow"} {
			for at := start.Add(-volumeDays * 24 * time.Hour); at.Before(start); at = at.Add(15 * time.Minute) {
				fmt.Fprintf(&b, "%s,%s,%s,%.0f\n", at.Format(time.RFC3339), n.entity, signal, n.passed(signal, at))
			}
		}
	}
	return b.String()
}

// volumes makes what passed the networks in five minutes each.
type volumes struct {
	start time.Time
	n     int
}

func (v *volumes) next() (message, bool) {
	nets, signals := demoNetworks(), []string{"http", "netflow"}
	all := len(nets) * len(signals)
	i, step := v.n%all, v.n/all
	v.n++
	since := volumePeriod * time.Duration(step)
	at := v.start.Add(since)
	n, signal := nets[i/len(signals)], signals[i%len(signals)]
	bytes := n.passed(signal, at) / 3 * n.left(signal, since)
	return message{Event: at, Key: []byte(n.entity), Value: fmt.Appendf(nil, `{"entity":%q,"source":%q,"ts":%d,"bytes":%.0f}`, n.entity, signal, at.UnixMilli(), bytes)}, true
}
