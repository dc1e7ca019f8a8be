package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark/tidemark/operators/power"
	"github.com/tidemark/tidemark/pipeline"
)

// cmdPDU is the group of commands about PDUs.
func cmdPDU(ctx context.Context, args []string, out streams) error {
	if len(args) > 0 {
		switch args[0] {
		case "analyze":
			return cmdPDUAnalyze(ctx, args[1:], out)
		case "room":
			return cmdPDURoom(args[1:], out)
		case "-h", "-help", "--help":
			return cmdPDUAnalyze(ctx, args[:1], out)
		}
	}
	return &usageError{"pdu: want analyze or room; `tidemark pdu analyze --help` and `tidemark pdu room --help` show their flags"}
}

// Forms of output.
const (
	formatTable = "table"
	formatJSON  = "json"
)

// ratingFlags are what is taken for a PDU that no inventory has.
type ratingFlags struct {
	wiring                           string
	volts, line, breaker, continuous float64
	format                           string
}

func (r *ratingFlags) register(f *flags) {
	f.StringVar(&r.wiring, "wiring", "", "delta, wye or single")
	f.Float64Var(&r.volts, "volts", 0, "`V` between lines with delta wiring, else to neutral")
	f.Float64Var(&r.line, "line", 0, "rating of a line, in `A`")
	f.Float64Var(&r.breaker, "breaker", 0, "rating of the breaker of a branch, in `A`")
	f.Float64Var(&r.continuous, "continuous", 0.8, "`share` of a breaker that may be drawn for hours; 1 where breakers are rated by IEC")
	f.StringVar(&r.format, "format", formatTable, "table, or json: one object a line")
}

// pdu is the PDU that the flags describe.
func (r *ratingFlags) pdu() (power.PDU, error) {
	if r.format != formatTable && r.format != formatJSON {
		return power.PDU{}, fmt.Errorf("--format %q: want table or json", r.format)
	}
	p := power.DefaultPDU("pdu")
	p.Wiring, p.Volts = power.Wiring(r.wiring), r.volts
	p.Limits = power.Limits{LineA: r.line, BreakerA: r.breaker, Continuous: r.continuous}
	if _, errs := power.NewInventory(power.Entries{PDUs: []power.PDU{p}}, ""); len(errs) > 0 {
		flag := strings.TrimSuffix(errs[0].Field, "_a")
		return power.PDU{}, fmt.Errorf("--%s %s", flag, errs[0].Text)
	}
	return p, nil
}

// cmdPDURoom says how many watts fit beside a load.
func cmdPDURoom(args []string, out streams) error {
	f := newFlags("pdu room", "tidemark pdu room --volts 208 --watts 3600,1800,1800 --line 24 --breaker 20",
		"says what three loads draw, and how many more watts fit on each branch, by itself, before a line reaches its rating or the branch its breaker")
	var r ratingFlags
	r.register(f)
	watts := f.String("watts", "", "`W,W,W` on branches L12, L23, L31; on lines L1, L2, L3 of a wye")
	if err := f.parse(args); err != nil {
		return err
	}
	p, err := r.pdu()
	if err != nil {
		return &usageError{"pdu room: " + err.Error()}
	}
	loads, err := threeNumbers(*watts)
	switch {
	case err != nil:
		return &usageError{"pdu room: --watts " + err.Error()}
	case p.Volts == 0:
		return &usageError{"pdu room: --volts is missing"}
	case p.Limits.LineA == 0:
		return &usageError{"pdu room: --line is missing: the rating of a line"}
	}
	report, err := power.Describe(p, loads)
	if err != nil {
		return &usageError{"pdu room: --watts: " + err.Error()}
	}
	w := bufio.NewWriter(out.stdout)
	if r.format == formatJSON {
		writePowerJSON(w, loadObject(&report))
	} else {
		printLoads(w, &report)
		printTotals(w, &report)
	}
	return w.Flush()
}

// threeNumbers reads three numbers with commas between them.
func threeNumbers(text string) (power.Three, error) {
	var out power.Three
	parts := strings.Split(text, ",")
	if len(parts) != 3 {
		return out, fmt.Errorf("%q: want three numbers with commas between them", text)
	}
	for i, part := range parts {
		v, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil {
			return out, fmt.Errorf("%q: %q is no number", text, part)
		}
		out[i] = v
	}
	return out, nil
}

// analyzeFlags are the flags of pdu analyze.
type analyzeFlags struct {
	ratingFlags
	inventory      string
	all            bool
	join, interval time.Duration
	imbalance      float64
}

// cmdPDUAnalyze judges the readings of a file.
func cmdPDUAnalyze(ctx context.Context, args []string, out streams) error {
	f := newFlags("pdu analyze", "tidemark pdu analyze readings.csv --inventory power.yaml --format json",
		"judges the readings of FILE, or of standard input for -, as a job with power: does: CSV with a header or one JSON object a line, with the columns of feed pdu, or with objects of a vendor (pdu_id, time, object, index, value). It prints the last load of every PDU, what was found, and the energy")
	var a analyzeFlags
	a.register(f)
	f.StringVar(&a.inventory, "inventory", "", "`file` with PDUs, devices and silences, .yaml or .csv; docs/power.md describes it. The other flags are for PDUs that it does not have")
	f.BoolVar(&a.all, "all", false, "print the load at every instant")
	f.DurationVar(&a.join, "join", time.Second, "readings of a PDU that are less than this apart are of one instant")
	f.DurationVar(&a.interval, "interval", 0, "how often a PDU is read (default: as often as most are in the file)")
	f.Float64Var(&a.imbalance, "imbalance", power.DefaultConfig().ImbalancePct, "`percent` of imbalance above which there is a finding, 0 for none")
	file, err := f.parseFile(args)
	if err != nil {
		return err
	}
	other, err := a.pdu()
	if err != nil {
		return &usageError{"pdu analyze: " + err.Error()}
	}
	inv, err := a.open(other)
	if err != nil {
		return err
	}
	in, err := openInput(file)
	if err != nil {
		return err
	}
	defer in.Close()
	readings, err := readPower(file, in)
	if err != nil {
		return fmt.Errorf("pdu analyze: %w", err)
	}
	cfg := power.DefaultConfig()
	cfg.Join, cfg.Interval, cfg.ImbalancePct = pipeline.Ticks(a.join), pipeline.Ticks(a.interval), a.imbalance
	if a.interval == 0 {
		cfg.Interval = max(readings.interval(cfg.Join), cfg.Join+1)
	}
	cfg.Forget = max(cfg.Forget, pipeline.AddTicks(0, 4*cfg.Interval))
	if err := cfg.Validate(); err != nil {
		return &usageError{"pdu analyze: --" + err.Error()}
	}
	w := bufio.NewWriter(out.stdout)
	run := analysis{inv: inv, all: a.all, json: a.format == formatJSON, out: w, members: map[string]*power.Group{}, last: map[string]power.Report{}, totals: map[string]*energyTotal{}}
	if err := run.run(ctx, cfg, readings); err != nil {
		return err
	}
	for _, name := range readings.unread {
		fmt.Fprintf(out.stderr, "column %s is not read\n", name)
	}
	if readings.none > 0 {
		fmt.Fprintf(out.stderr, "%d values are not supported by their device\n", readings.none)
	}
	return w.Flush()
}

// open reads the inventory.
func (a *analyzeFlags) open(other power.PDU) (*power.Inventory, error) {
	if a.inventory == "" {
		inv, _ := power.NewInventory(power.Entries{Other: other}, "")
		return inv, nil
	}
	b, err := os.ReadFile(a.inventory)
	if err != nil {
		return nil, fmt.Errorf("pdu analyze: --inventory: %w", err)
	}
	return parseInventory(a.inventory, b, other)
}

// interval is the time that most readings of a PDU are apart, instants taken together: the median.
func (f *powerFile) interval(join int64) int64 {
	last := map[string]int64{}
	var gaps []int64
	for _, r := range f.readings {
		was, ok := last[r.pdu]
		if gap := r.at - was; ok && gap < max(join, 1) {
			continue
		} else if ok {
			gaps = append(gaps, gap)
		}
		last[r.pdu] = r.at
	}
	if len(gaps) == 0 {
		return power.DefaultConfig().Interval
	}
	slices.Sort(gaps)
	return gaps[len(gaps)/2]
}

// analysis is one run of pdu analyze.
type analysis struct {
	inv       *power.Inventory
	all, json bool
	out       *bufio.Writer

	members  map[string]*power.Group
	last     map[string]power.Report // by PDU
	totals   map[string]*energyTotal
	reports  []power.Report // all of them, where they are asked for
	findings []power.Finding
}

// energyTotal is what a PDU drew.
type energyTotal struct {
	from, to           int64
	counter, power     float64
	counted, gaps, odd int // instants with a counter, with a gap, with a counter that is not plain
}

func (t *energyTotal) add(r *power.Report) {
	if t.from == 0 {
		t.from = r.At
	}
	t.to = r.At
	if r.Energy.Added {
		t.counter += r.Energy.KWh
		t.counted++
	}
	if k := r.Energy.Kind; k != "" && k != power.EnergyFirst && k != power.EnergyOK {
		t.odd++
	}
	if isKnown(r.PowerKWh) {
		t.power += r.PowerKWh
	} else {
		t.gaps++
	}
}

func (a *analysis) run(ctx context.Context, cfg power.Config, f *powerFile) error {
	judge, err := power.NewJudge(cfg, a.inv)
	if err != nil {
		return err
	}
	for i, r := range f.readings {
		if i%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		key := a.inv.Key(r.pdu)
		g := a.members[key]
		if g == nil {
			g = &power.Group{}
			a.members[key] = g
		}
		judge.Read(key, g, r.at, r.pdu, r.sample)
		a.take(judge)
	}
	end := pipeline.AddTicks(f.readings[len(f.readings)-1].at, cfg.Join)
	for _, key := range slices.Sorted(maps.Keys(a.members)) {
		judge.Advance(key, a.members[key], end)
		a.take(judge)
	}
	a.print()
	if judge.Dropped > 0 {
		return errors.New("pdu analyze: a PDU has more elements than are taken: is pdu_id the right column?")
	}
	return nil
}

// take takes what the judge has collected.
func (a *analysis) take(j *power.Judge) {
	for _, r := range j.Reports {
		id := r.PDU.ID
		if a.totals[id] == nil {
			a.totals[id] = &energyTotal{}
		}
		a.totals[id].add(&r)
		a.last[id] = r
		if a.all {
			a.reports = append(a.reports, r)
		}
	}
	a.findings = append(a.findings, j.Findings...)
	j.Reports, j.Findings = j.Reports[:0], j.Findings[:0]
}

func (a *analysis) print() {
	ids := slices.Sorted(maps.Keys(a.last))
	if !a.all {
		for _, id := range ids {
			a.reports = append(a.reports, a.last[id])
		}
	}
	slices.SortStableFunc(a.reports, func(x, y power.Report) int { return cmp.Or(cmp.Compare(x.At, y.At), cmp.Compare(x.PDU.ID, y.PDU.ID)) })
	for i := range a.reports {
		a.printReport(&a.reports[i])
	}
	slices.SortStableFunc(a.findings, func(x, y power.Finding) int { return cmp.Compare(x.Modified, y.Modified) })
	for i := range a.findings {
		if a.json {
			writePowerJSON(a.out, findingObject(&a.findings[i]))
		} else {
			printFinding(a.out, &a.findings[i])
		}
	}
	for _, id := range ids {
		if a.json {
			writePowerJSON(a.out, totalObject(id, a.totals[id]))
		} else {
			printEnergy(a.out, id, a.totals[id])
		}
	}
}

func (a *analysis) printReport(r *power.Report) {
	if a.json {
		writePowerJSON(a.out, loadObject(r))
		return
	}
	printReport(a.out, r)
}
