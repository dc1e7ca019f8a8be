package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemark/tidemark/operators/traffic"
)

// detectFlags are the flags of traffic detect.
type detectFlags struct {
	format, entity string
	merge          bool
	gap            time.Duration
	autoVerify     int
	quorum         int
}

// cmdTrafficDetect runs the detector over the series of files.
func cmdTrafficDetect(ctx context.Context, args []string, out streams) error {
	f := newFlags("traffic detect", "tidemark traffic detect --format table volumes.csv",
		"finds the drops in series of 15-minute slots with the detector of the jobs, and prints its events.\n"+
			"FILE.csv, or standard input for -, has the columns ts (start of the slot, RFC 3339) and one of values for every signal; a slot that is\n"+
			"empty or left out is missing. Several files are signals of one entity too; FILE.csv:NAME names the signal of a file with one column.\n"+
			"Eligibility is off: a series with little in it shows drops by chance")
	var d detectFlags
	merging := traffic.DefaultMergeConfig()
	f.StringVar(&d.format, "format", "json", "json or `table`")
	f.BoolVar(&d.merge, "merge", false, "merge the events of the signals into anomalies of the entity")
	f.StringVar(&d.entity, "entity", "", "with --merge: `name` of the entity (default that of the first file)")
	f.DurationVar(&d.gap, "merge-gap", time.Duration(merging.Gap)*time.Microsecond, "with --merge: events are widened by this on both sides, and merged when they touch")
	f.IntVar(&d.autoVerify, "auto-verify", merging.AutoVerify, "with --merge: verified when so many `signals` see it, 0 for never")
	f.IntVar(&d.quorum, "quorum", merging.Quorum, "with --merge: left out when fewer `signals` see it")
	files, err := f.parseFiles(args)
	if err != nil {
		return err
	}
	merging.Gap, merging.AutoVerify, merging.Quorum = d.gap.Microseconds(), d.autoVerify, d.quorum
	switch {
	case len(files) == 0:
		return &usageError{"traffic detect: no file: want one or more, or - for standard input"}
	case d.format != "json" && d.format != "table":
		return &usageError{fmt.Sprintf("traffic detect: --format %q: want json or table", d.format)}
	}
	if err := merging.Validate(); err != nil {
		return &usageError{"traffic detect: --merge: " + err.Error()}
	}
	var signals []*signalSeries
	for _, name := range files {
		more, err := detectFile(ctx, name)
		if err != nil {
			return fmt.Errorf("traffic detect: %w", err)
		}
		signals = append(signals, more...)
	}
	for i, s := range signals {
		if d.merge && slices.ContainsFunc(signals[:i], func(o *signalSeries) bool { return o.name == s.name }) {
			return &usageError{fmt.Sprintf("traffic detect: --merge: two signals are named %q: name them FILE.csv:NAME", s.name)}
		}
	}
	stdout := bufio.NewWriter(out.stdout)
	if d.merge {
		err = d.printAnomalies(stdout, merging, files[0], signals)
	} else {
		err = d.printEvents(stdout, signals)
	}
	for _, s := range signals {
		fmt.Fprintln(out.stderr, s.summary())
	}
	return errors.Join(err, stdout.Flush())
}

// signalSeries is what the detector found in one series.
type signalSeries struct {
	file, name string
	start      int64 // of the first slot
	slots      int
	missing    int
	events     []traffic.Event
}

// detectFile runs a detector over every column of values of a file.
func detectFile(ctx context.Context, name string) ([]*signalSeries, error) {
	path, signal := signalOf(name)
	in, err := openInput(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	r, err := newSeriesReader(path, in)
	if err != nil {
		return nil, err
	}
	if signal != "" && len(r.signals) > 1 {
		return nil, fmt.Errorf("%s: %d columns of values: %q can name only one; the header names several", path, len(r.signals), signal)
	}
	var out []*signalSeries
	for _, column := range r.signals {
		out = append(out, &signalSeries{file: path, name: cmp.Or(signal, column)})
	}
	return out, detectRows(ctx, r, out)
}

// signalOf takes the name of the signal off FILE:NAME.
func signalOf(arg string) (path, signal string) {
	i := strings.LastIndexByte(arg, ':')
	if i <= 0 || i+1 == len(arg) {
		return arg, ""
	}
	if _, err := os.Stat(arg); err == nil {
		return arg, ""
	}
	return arg[:i], arg[i+1:]
}

func detectRows(ctx context.Context, r *seriesReader, to []*signalSeries) error {
	var detectors []*traffic.Detector
	for {
		at, values, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		for i, s := range to {
			if len(detectors) == i {
				d, err := traffic.NewDetector(traffic.DefaultDetectorConfig(), at)
				if err != nil {
					return err
				}
				detectors, s.start = append(detectors, d), at
			}
			for d := detectors[i]; d.Next() <= at; {
				v := traffic.Missing()
				if d.Next() == at {
					v = values[i]
				}
				s.add(d, v)
			}
		}
	}
	if len(detectors) == 0 {
		return fmt.Errorf("%s: has a header and no rows", r.name)
	}
	for i, s := range to {
		if e, open := detectors[i].Open(); open {
			s.events = append(s.events, e)
		}
	}
	return nil
}

func (s *signalSeries) add(d *traffic.Detector, v float64) {
	s.slots++
	if math.IsNaN(v) {
		s.missing++
	}
	if e, closed := d.Add(v); closed {
		s.events = append(s.events, e)
	}
}

// summary says what was looked at, and why nothing can be found in a short series.
func (s *signalSeries) summary() string {
	text := fmt.Sprintf("%s: %s: %d slots from %s, %d missing, %d events", s.file, s.name, s.slots, stamp(s.start), s.missing, len(s.events))
	if s.slots < traffic.WarmUp {
		text += fmt.Sprintf("; too short: the first verdict needs %d slots (29 days and an hour)", traffic.WarmUp)
	}
	return text
}

// drop is an event of the detector as tools print it.
type drop struct {
	Signal            string  `json:"signal,omitempty"`
	StartDate         string  `json:"startDate"`
	EndDate           *string `json:"endDate"`
	DetectedAt        string  `json:"detectedAt"`
	ClosedAt          *string `json:"closedAt"`
	Trigger           string  `json:"trigger"`
	CloseReason       *string `json:"closeReason"`
	Slots             int     `json:"slots"`
	MinRelativeChange float64 `json:"minRelativeChange"`
	LostVolume        float64 `json:"lostVolume"`
	ExpectedVolume    float64 `json:"expectedVolume"`
	Magnitude         float64 `json:"magnitude"`
	MatchedLagDays    []int   `json:"matchedLagDays"`
}

func newDrop(signal string, e traffic.Event) drop {
	d := drop{
		Signal: signal, StartDate: stamp(e.Start), DetectedAt: stamp(e.DetectedAt), Trigger: string(e.Trigger), Slots: e.Slots,
		MinRelativeChange: math.Round(e.MinChange*1e6) / 1e6, LostVolume: e.Lost, ExpectedVolume: e.Expected, Magnitude: e.Magnitude, MatchedLagDays: e.LagDays,
	}
	if e.HasEnd {
		d.EndDate = new(stamp(e.End))
	}
	if e.Reason != traffic.StillOpen {
		d.ClosedAt, d.CloseReason = new(stamp(e.ClosedAt)), new(string(e.Reason))
	}
	return d
}

// printEvents prints the events by start and signal; the signal is told where there are several.
func (d *detectFlags) printEvents(out io.Writer, signals []*signalSeries) error {
	drops := []drop{}
	for _, s := range signals {
		signal := s.name
		if len(signals) == 1 {
			signal = ""
		}
		for _, e := range s.events {
			drops = append(drops, newDrop(signal, e))
		}
	}
	slices.SortStableFunc(drops, func(a, b drop) int {
		return cmp.Or(strings.Compare(a.StartDate, b.StartDate), strings.Compare(a.Signal, b.Signal))
	})
	if d.format == "json" {
		return printJSON(out, drops)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "START\tEND\tDETECTED\tTRIGGER\tCLOSED\tSLOTS\tLOWEST\tLOST\tEXPECTED\tSIGNAL")
	for _, e := range drops {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%.1f %%\t%.0f\t%.0f\t%s\n", e.StartDate, orOpen(e.EndDate), e.DetectedAt, e.Trigger, orOpen(e.CloseReason), e.Slots,
			100*e.MinRelativeChange, e.LostVolume, e.ExpectedVolume, e.Signal)
	}
	return w.Flush()
}

func orOpen(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

// mergedHead says of what the anomalies behind it were merged.
type mergedHead struct {
	Entity            string   `json:"entity"`
	Signals           []string `json:"signals"`
	MergeGapSeconds   float64  `json:"mergeGapSeconds"`
	AutoVerifySources int      `json:"autoVerifySources"`
	Quorum            int      `json:"quorum"`
}

// merged is an anomaly as tools print it.
type merged struct {
	StartDate            string   `json:"startDate"`
	EndDate              *string  `json:"endDate"`
	VisibleInDataSources []string `json:"visibleInDataSources"`
	Status               string   `json:"status"`
}

func (d *detectFlags) printAnomalies(out io.Writer, cfg traffic.MergeConfig, first string, signals []*signalSeries) error {
	base := func(path string) string { return strings.TrimSuffix(filepath.Base(path), ".csv") }
	first, _ = signalOf(first)
	head := mergedHead{Entity: cmp.Or(d.entity, base(first)), Signals: []string{}, MergeGapSeconds: d.gap.Seconds(), AutoVerifySources: cfg.AutoVerify, Quorum: cfg.Quorum}
	var events []traffic.SignalEvent
	for _, s := range signals {
		head.Signals = append(head.Signals, base(s.file)+":"+s.name)
		for _, e := range s.events {
			events = append(events, traffic.SignalEvent{Signal: s.name, Event: e})
		}
	}
	all := []any{head}
	var anomalies []merged
	for _, a := range traffic.Merge(cfg, events) {
		m := merged{StartDate: stamp(a.Start), VisibleInDataSources: a.Signals, Status: string(a.Status)}
		if a.HasEnd {
			m.EndDate = new(stamp(a.End))
		}
		all, anomalies = append(all, m), append(anomalies, m)
	}
	if d.format == "json" {
		return printJSON(out, all)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "START\tEND\tSTATUS\tSEEN IN\tENTITY")
	for _, a := range anomalies {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", a.StartDate, orOpen(a.EndDate), a.Status, strings.Join(a.VisibleInDataSources, ","), head.Entity)
	}
	return w.Flush()
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", " ")
	return e.Encode(v)
}
