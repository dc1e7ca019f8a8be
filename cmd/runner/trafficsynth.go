package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/tidemark/tidemark/operators/traffic"
)

// outage is one series of a set: what is known of an outage, and what the detector is to say of it.
// Depths are assumed where nobody has told them.
type outage struct {
	name, place, cause string
	zone               float64 // hours from UTC, for the rhythm of the day
	level              float64 // of a slot at noon of a working day
	drops              []dip
	want               string // trigger of the one event, any, or "" for none
}

// dip is a drop of traffic by a part of what would have been. It deepens until nadir and, where it
// fades, goes back to nothing until end; else it lasts until then.
type dip struct {
	start, nadir, end time.Time
	depth             float64
	fades             bool
}

// at is by which part the dip lowers an instant.
func (d dip) at(t time.Time) float64 {
	switch {
	case t.Before(d.start) || !t.Before(d.end):
		return 0
	case t.Before(d.nadir):
		return d.depth * float64(t.Sub(d.start)) / float64(d.nadir.Sub(d.start))
	case d.fades:
		return d.depth * float64(d.end.Sub(t)) / float64(d.end.Sub(d.nadir))
	}
	return d.depth
}

// in is by which part the dip lowers the 15 minutes from start, minute by minute.
func (d dip) in(start time.Time) float64 {
	sum := 0.0
	for m := range 15 {
		sum += d.at(start.Add(time.Duration(m)*time.Minute + 30*time.Second))
	}
	return sum / 15
}

// outages2024q2 are the outages of the second quarter of 2024 of which
// times were told. The series are made up: only places, times and depths are facts.
func outages2024q2() []outage {
	at := func(month time.Month, day, hour, minute int) time.Time {
		return time.Date(2024, month, day, hour, minute, 0, 0, time.UTC)
	}
	step := func(depth float64, start, end time.Time) []dip { return []dip{{start, start, end, depth, false}} }
	fading := func(depth float64, start, nadir, end time.Time) []dip {
		return []dip{{start, nadir, end, depth, true}}
	}
	const sustained, point, any = "sustained", "point", "any"
	return []outage{
		{"haiti-digicel-april", "Haiti, AS27653 Digicel", "outage", -4, 42_000, step(0.97, at(4, 27, 21, 30), at(4, 28, 20, 0)), point},
		{"haiti-digicel-may", "Haiti, AS27653 Digicel", "nominal drop", -4, 42_000, step(0.10, at(5, 3, 6, 15), at(5, 3, 14, 30)), ""},
		{"kenya-cables", "Kenya, Uganda, Madagascar, Mozambique", "submarine cables EASSy and Seacom", 3, 240_000, step(0.20, at(5, 12, 8, 0), at(5, 13, 8, 0)), ""},
		{"rwanda-cables", "Rwanda, Malawi, Tanzania", "submarine cables EASSy and Seacom", 2, 36_000, step(0.45, at(5, 12, 8, 0), at(5, 19, 8, 0)), sustained},
		{"chad-moov", "Chad, Moov Africa", "outage", 1, 18_000, step(0.95, at(5, 25, 14, 15), at(5, 25, 17, 15)), any},
		{"gambia-gamtel", "The Gambia, AS25250 Gamtel", "submarine cable ACE", 0, 9_000, step(0.55, at(6, 5, 23, 0), at(6, 6, 10, 0)), sustained},
		{"senegal-free", "Senegal, AS37649 Free", "submarine cable ACE", 0, 52_000, step(0.55, at(6, 5, 23, 0), at(6, 6, 10, 0)), sustained},
		{"mauritania-mauritel", "Mauritania, AS29544 Mauritel", "submarine cable ACE", 0, 15_000, step(0.97, at(6, 5, 23, 0), at(6, 6, 10, 0)), point},
		{"guinea-ace", "Guinea, The Gambia, Sierra Leone, Liberia", "planned work on submarine cable ACE", 0, 30_000, step(0.70, at(4, 8, 0, 0), at(4, 8, 2, 0)), any},
		{"kenya-grid", "Kenya", "power grid", 3, 240_000, step(0.60, at(5, 2, 14, 30), at(5, 2, 18, 30)), any},
		{"ecuador-grid", "Ecuador", "power grid", -5, 310_000, fading(0.75, at(6, 19, 20, 0), at(6, 19, 20, 0), at(6, 19, 23, 41)), any},
		{"albania-grid", "Albania", "power grid", 2, 61_000, fading(0.65, at(6, 21, 10, 0), at(6, 21, 10, 30), at(6, 21, 13, 30)), any},
		{"bosnia-grid", "Bosnia", "power grid", 2, 78_000, fading(0.65, at(6, 21, 10, 0), at(6, 21, 10, 30), at(6, 21, 13, 30)), any},
		{"montenegro-grid", "Montenegro", "power grid", 2, 21_000, fading(0.80, at(6, 21, 10, 0), at(6, 21, 11, 0), at(6, 21, 13, 30)), any},
		{"sumy-grid", "Ukraine, Sumy", "attack on the power grid", 3, 27_000, fading(0.82, at(5, 21, 21, 0), at(5, 21, 21, 0), at(5, 22, 5, 0)), any},
		{"malaysia-time", "Malaysia, Time Internet", "DNS servers", 8, 130_000, step(0.42, at(4, 15, 9, 0), at(4, 15, 11, 0)), sustained},
		{"nepal-vianet-may", "Nepal, AS45650 Vianet", "outage", 5.75, 25_000, step(0.98, at(5, 2, 10, 30), at(5, 2, 16, 30)), any},
		{"nepal-dishhome", "Nepal, AS139922 Dishhome", "outage", 5.75, 17_000, step(0.65, at(5, 2, 11, 30), at(5, 2, 17, 30)), any},
		{"nepal-worldlink", "Nepal, AS17501 Worldlink", "routing of an upstream", 5.75, 64_000, step(0.60, at(6, 3, 6, 30), at(6, 3, 8, 15)), any},
		{"nepal-vianet-june", "Nepal, AS45650 Vianet", "routing of an upstream", 5.75, 25_000, step(0.90, at(6, 3, 6, 30), at(6, 3, 7, 30)), any},
		{"malaysia-celcomdigi", "Malaysia, AS10030 CelcomDigi", "outage", 8, 150_000, step(0.70, at(5, 21, 10, 0), at(5, 21, 12, 15)), any},
		{"starlink", "Starlink", "outage of 28 minutes", 0, 90_000, step(0.30, at(5, 29, 1, 59), at(5, 29, 2, 27)), ""},
		{"chad-june", "Chad", "outage", 1, 18_000, step(0.97, at(6, 5, 7, 15), at(6, 5, 11, 0)), any},
		{"india-jio-45", "India, AS55836 Jio, two dips of 45 minutes", "outages", 5.5, 900_000,
			append(step(0.50, at(6, 18, 7, 45), at(6, 18, 8, 30)), step(0.50, at(6, 18, 11, 0), at(6, 18, 11, 45))...), ""},
		{"india-jio-60", "India, AS55836 Jio, had the first lasted an hour", "outages", 5.5, 900_000, step(0.50, at(6, 18, 7, 45), at(6, 18, 8, 45)), sustained},
	}
}

// span is from the first dip to the last.
func (o outage) span() (start, end time.Time) { return o.drops[0].start, o.drops[len(o.drops)-1].end }

// bounds are those of the series: 35 days before the outage, and two behind it.
func (o outage) bounds() (from, to time.Time) {
	start, end := o.span()
	const day = 24 * time.Hour
	return start.Truncate(day).Add(-35 * day), end.Truncate(day).Add(3 * day)
}

// series makes the values of a series: the rhythm of days and weeks with 2 % of noise, lowered by
// the dips. The same name gives the same values.
func (o outage) series() (start time.Time, values []float64) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(o.name)) // never fails
	rng := rand.New(rand.NewPCG(h.Sum64(), 2024))
	start, end := o.bounds()
	for t := start; t.Before(end); t = t.Add(15 * time.Minute) {
		v := o.level * rhythm(t.Add(time.Duration(o.zone*float64(time.Hour)))) * (1 + 0.02*rng.NormFloat64())
		for _, d := range o.drops {
			v *= 1 - d.in(t)
		}
		values = append(values, math.Round(v))
	}
	return start, values
}

// rhythm is how much traffic there is at a local time: least at five in the morning, most at nine
// in the evening, a tenth less on Saturdays and Sundays.
func rhythm(local time.Time) float64 {
	hour := local.Sub(local.Truncate(24 * time.Hour)).Hours()
	v := 0.72 + 0.34*math.Sin(2*math.Pi*(hour-11)/24) + 0.12*math.Sin(4*math.Pi*(hour-5)/24)
	if d := local.Weekday(); d == time.Saturday || d == time.Sunday {
		v *= 0.9
	}
	return v
}

// outageSet returns a set of series by name.
func outageSet(name string) ([]outage, error) {
	if name != "outages-2024-q2" {
		return nil, &usageError{fmt.Sprintf("--set %q: want outages-2024-q2", name)}
	}
	return outages2024q2(), nil
}

// cmdTrafficSynth writes the series of a set.
func cmdTrafficSynth(ctx context.Context, args []string, out streams) error {
	f := newFlags("traffic synth", "tidemark traffic synth --set outages-2024-q2 series",
		"writes made-up series of outages that did happen into a folder, a CSV for traffic detect each; the same set gives the same files")
	name := f.String("set", "outages-2024-q2", "`set` of series")
	records := f.Bool("records", false, "write records.jsonl too: all series as records for a job with traffic:, which produce sends")
	dir, err := f.parseFile(args)
	if err != nil {
		return err
	}
	set, err := outageSet(*name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("traffic synth: %w", err)
	}
	for _, o := range set {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := writeTo(filepath.Join(dir, o.name+".csv"), o.write); err != nil {
			return fmt.Errorf("traffic synth: %w", err)
		}
	}
	if *records {
		if err := writeTo(filepath.Join(dir, "records.jsonl"), func(w io.Writer) error { return writeRecords(w, set) }); err != nil {
			return fmt.Errorf("traffic synth: %w", err)
		}
	}
	fmt.Fprintf(out.stderr, "%d series in %s\n", len(set), dir)
	return nil
}

// writeRecords writes series as records of feed traffic, by time: a volume for every slot.
func writeRecords(w io.Writer, set []outage) error {
	type record struct {
		Entity string `json:"entity"`
		TS     int64  `json:"ts"`
		Bytes  int64  `json:"bytes"`
	}
	var all []record
	for _, o := range set {
		start, values := o.series()
		for i, v := range values {
			all = append(all, record{o.name, start.Add(time.Duration(i) * slotLength).UnixMilli(), int64(v)})
		}
	}
	slices.SortStableFunc(all, func(a, b record) int { return cmp.Compare(a.TS, b.TS) })
	e := json.NewEncoder(w)
	for _, r := range all {
		if err := e.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

func (o outage) write(w io.Writer) error {
	start, values := o.series()
	b := []byte("ts,value\n")
	for i, v := range values {
		b = start.Add(time.Duration(i)*time.Duration(traffic.SlotTicks)*time.Microsecond).AppendFormat(b, time.RFC3339)
		b = strconv.AppendFloat(append(b, ','), v, 'f', -1, 64)
		b = append(b, '\n')
	}
	_, err := w.Write(b)
	return err
}

// writeTo makes a file of what write writes.
func writeTo(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	err = write(w)
	if err == nil {
		err = w.Flush()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
