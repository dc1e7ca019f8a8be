package main

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidemark/tidemark/operators/traffic"
)

// cmdTrafficReport writes a page about what the detector says of a set.
func cmdTrafficReport(ctx context.Context, args []string, out streams) error {
	f := newFlags("traffic report", "tidemark traffic report --set outages-2024-q2 docs/outages-2024-q2.md",
		"runs the detector over the series of a set and writes a page with a table and pictures: FILE.md, and a folder FILE beside it")
	name := f.String("set", "outages-2024-q2", "`set` of series")
	file, err := f.parseFile(args)
	if err != nil {
		return err
	}
	set, err := outageSet(*name)
	if err != nil {
		return err
	}
	dir, ok := strings.CutSuffix(file, ".md")
	if !ok {
		return &usageError{fmt.Sprintf("traffic report: %s: want a file that ends in .md", file)}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("traffic report: %w", err)
	}
	var findings []outageFinding
	for _, o := range set {
		if err := ctx.Err(); err != nil {
			return err
		}
		found, err := o.detect()
		if err != nil {
			return fmt.Errorf("traffic report: %s: %w", o.name, err)
		}
		picture := filepath.Join(dir, o.name+".svg")
		if err := writeTo(picture, found.draw); err != nil {
			return fmt.Errorf("traffic report: %w", err)
		}
		findings = append(findings, found)
	}
	err = writeTo(file, func(w io.Writer) error { return writeReport(w, *name, filepath.Base(dir), findings) })
	if err != nil {
		return fmt.Errorf("traffic report: %w", err)
	}
	fmt.Fprintf(out.stderr, "%s: %d series\n", file, len(set))
	return nil
}

// outageFinding is what the detector says of a series.
type outageFinding struct {
	outage
	from      time.Time
	values    []float64
	forecasts []float64 // 0 where there is none
	events    []traffic.Event
}

func (o outage) detect() (outageFinding, error) {
	f := outageFinding{outage: o}
	f.from, f.values = o.series()
	d, err := traffic.NewDetector(traffic.DefaultDetectorConfig(), f.from.UnixMicro())
	if err != nil {
		return f, err
	}
	for _, v := range f.values {
		if e, closed := d.Add(v); closed {
			f.events = append(f.events, e)
		}
		forecast, _ := d.Forecast()
		f.forecasts = append(f.forecasts, forecast)
	}
	if e, open := d.Open(); open {
		f.events = append(f.events, e)
	}
	return f, nil
}

func writeReport(w io.Writer, set, dir string, findings []outageFinding) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Outages of 2024 Q2: what the drop detector says\n\nMade by `tidemark traffic report --set %s docs/%s.md`. ", set, dir)
	b.WriteString(`Places, times and causes are those of outages
that happened; the series are ours and made up (` + "`tidemark traffic synth`" + `): days and weeks with 2 % of noise, lowered by the
depth that was told or, where nobody has told it, assumed. Times are UTC. In the pictures the line is the traffic, the
dashed line the forecast, the red band what the detector found, and the bar below it the outage as it was put in.

| place | cause | outage | depth | found | start | end | trigger | lowest |
|---|---|---|---|---|---|---|---|---|
`)
	found := 0
	for _, f := range findings {
		start, end := f.span()
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s to %s | %.0f %% |", f.place, f.name, f.cause, minutes(start), minutes(end), 100*f.drops[0].depth)
		if len(f.events) == 0 {
			b.WriteString(" no | | | | |\n")
			continue
		}
		found++
		e := f.events[0]
		fmt.Fprintf(&b, " yes | %s | %s | %s | %.0f %% |\n", minutes(ticksTime(e.Start)), minutes(ticksTime(e.End)), e.Trigger, 100*e.MinChange)
	}
	fmt.Fprintf(&b, "\n%d of %d series give one event, %d none.\n", found, len(findings), len(findings)-found)
	for _, f := range findings {
		fmt.Fprintf(&b, "\n## %s\n\n%s: %s.\n\n![%s](%s/%s.svg)\n", f.name, f.place, f.cause, f.place, dir, f.name)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func minutes(t time.Time) string { return t.UTC().Format("01-02 15:04") }

func ticksTime(t int64) time.Time { return time.UnixMicro(t).UTC() }

// Sizes of a picture, in its units.
const (
	pictureWidth, pictureHeight = 760, 200
	pictureLeft, pictureTop     = 8, 22
	pictureBottom               = 24
)

// draw draws the days around the outage.
func (f outageFinding) draw(w io.Writer) error {
	start, end := f.span()
	const day = 24 * time.Hour
	p := picture{from: start.Truncate(day), to: end.Truncate(day).Add(day)}
	if start.Sub(p.from) < 6*time.Hour {
		p.from = p.from.Add(-day)
	}
	first := int(p.from.Sub(f.from) / slotLength)
	last := min(int(p.to.Sub(f.from)/slotLength), len(f.values))
	for i := first; i < last; i++ {
		p.top = max(p.top, f.values[i], f.forecasts[i])
	}
	fmt.Fprintf(&p.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", pictureWidth, pictureHeight)
	fmt.Fprintf(&p.b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", pictureWidth, pictureHeight)
	fmt.Fprintf(&p.b, `<text x="%d" y="14" fill="#222">%s</text>`+"\n", pictureLeft, html.EscapeString(f.place))
	for _, e := range f.events {
		p.rect(ticksTime(e.Start), ticksTime(e.End), pictureTop, pictureHeight-pictureTop-pictureBottom, "#d33", 0.18)
	}
	for _, d := range f.drops {
		p.rect(d.start, d.end, pictureHeight-pictureBottom+2, 4, "#555", 1)
	}
	for t := p.from; !t.After(p.to); t = t.Add(day) {
		anchor := "start"
		if t.Equal(p.to) { // beside the edge
			anchor = "end"
		}
		fmt.Fprintf(&p.b, `<path d="M%.1f %dv%d" stroke="#ddd"/><text x="%.1f" y="%d" fill="#666" text-anchor="%s">%s</text>`+"\n", p.x(t), pictureTop, pictureHeight-pictureTop-pictureBottom,
			p.x(t), pictureHeight-6, anchor, t.Format("01-02"))
	}
	p.line(f.from, first, f.forecasts[first:last], `stroke="#888" stroke-dasharray="3 3"`)
	p.line(f.from, first, f.values[first:last], `stroke="#06c" stroke-width="1.4"`)
	p.b.WriteString("</svg>\n")
	_, err := w.Write(p.b.Bytes())
	return err
}

const slotLength = time.Duration(traffic.SlotTicks) * time.Microsecond

// picture draws times and values.
type picture struct {
	b        bytes.Buffer
	from, to time.Time
	top      float64
}

func (p *picture) x(t time.Time) float64 {
	share := float64(t.Sub(p.from)) / float64(p.to.Sub(p.from))
	return pictureLeft + min(max(share, 0), 1)*(pictureWidth-2*pictureLeft)
}

func (p *picture) y(v float64) float64 {
	return pictureTop + (1-v/p.top)*(pictureHeight-pictureTop-pictureBottom)
}

func (p *picture) rect(from, to time.Time, y, height int, fill string, opacity float64) {
	fmt.Fprintf(&p.b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s" fill-opacity="%g"/>`+"\n", p.x(from), y, max(p.x(to)-p.x(from), 1), height, fill, opacity)
}

// line draws values, the first of which is of slot first of a series, at the middle of their slots.
func (p *picture) line(start time.Time, first int, values []float64, style string) {
	p.b.WriteString(`<path fill="none" ` + style + ` d="`)
	for i, v := range values {
		letter := 'L'
		if i == 0 {
			letter = 'M'
		}
		at := start.Add(time.Duration(first+i)*slotLength + slotLength/2)
		fmt.Fprintf(&p.b, "%c%.1f %.1f", letter, p.x(at), p.y(v))
	}
	p.b.WriteString(`"/>` + "\n")
}
