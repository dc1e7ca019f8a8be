package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark/tidemark/operators/power"
)

func isKnown(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// digits writes a number with n digits behind the point, - for one that is not known.
func digits(v float64, n int) string {
	if !isKnown(v) {
		return "-"
	}
	if v == 0 {
		v = 0 // no -0
	}
	return strconv.FormatFloat(v, 'f', n, 64)
}

func ticksText(at int64) string { return time.UnixMicro(at).UTC().Format(time.RFC3339Nano) }

// printReport prints an instant of a PDU for people.
func printReport(w io.Writer, r *power.Report) {
	fmt.Fprintf(w, "%s  %s", r.PDU.ID, ticksText(r.At))
	if r.PDU.Feed != "" {
		fmt.Fprintf(w, "  feed %s", r.PDU.Feed)
	}
	if r.PDU.Group != "" {
		fmt.Fprintf(w, " of group %s", r.PDU.Group)
	}
	if !r.Listed {
		fmt.Fprint(w, "  (not in the inventory)")
	}
	fmt.Fprintln(w)
	printLoads(w, r)
	printTotals(w, r)
	printFailover(w, r)
	if k := r.Energy.Kind; k != "" {
		fmt.Fprintf(w, "energy since the reading before: %s kWh by the counter (%s), %s kWh by the power\n", digits(r.Energy.KWh, 3), k, digits(r.PowerKWh, 3))
	}
	fmt.Fprintln(w)
}

// printLoads prints lines beside branches.
func printLoads(w io.Writer, r *power.Report) {
	how := ""
	if r.Computed {
		how = " (line currents computed from the loads)"
	}
	fmt.Fprintf(w, "%s wiring%s\n", r.PDU.Wiring, how)
	fmt.Fprintf(w, "%-10s %10s %10s\n", "line", "A", "headroom")
	for k, name := range power.Lines {
		if k > 0 && r.PDU.Wiring == power.WiringSingle {
			break
		}
		fmt.Fprintf(w, "%-10s %10s %10s\n", name, digits(r.Line[k], 3), digits(r.Headroom.Line[k], 3))
	}
	if isKnown(r.Neutral) && r.PDU.Wiring == power.WiringWye {
		fmt.Fprintf(w, "%-10s %10s\n", "N", digits(r.Neutral, 3))
	}
	room := r.Room()
	if isKnown(r.LoadW[0]) || isKnown(r.Branch[0]) {
		fmt.Fprintf(w, "%-10s %10s %10s %10s %10s %10s\n", "load", "W", "A", "to trip", "for hours", "room W")
		for k, name := range r.PDU.Wiring.Loads() {
			amps := r.Branch[k]
			if !r.Delta {
				amps = r.Line[k]
			}
			fmt.Fprintf(w, "%-10s %10s %10s %10s %10s %10s\n", name, digits(r.LoadW[k], 1), digits(amps, 3), digits(headroomOf(r, k, r.Headroom.Branch), 3), digits(headroomOf(r, k, r.Headroom.Continuous), 3), digits(room[k], 1))
		}
	}
	if len(r.Banks) > 0 {
		fmt.Fprintf(w, "%-10s %10s %10s %10s\n", "breaker", "A", "to trip", "for hours")
	}
	for i, b := range r.Banks {
		fmt.Fprintf(w, "%-10s %10s %10s %10s\n", b.Name, digits(b.A, 3), digits(r.BankHeadroom[i], 3), digits(r.BankContinuous[i], 3))
	}
}

// headroomOf is the headroom of a branch; phases of a wye have no breaker of their own.
func headroomOf(r *power.Report, k int, of power.Three) float64 {
	if !r.Delta {
		return power.Unknown()
	}
	return of[k]
}

func printTotals(w io.Writer, r *power.Report) {
	fmt.Fprintf(w, "total %s W, %s var, %s VA, power factor %s\n", digits(r.W, 1), digits(r.Var, 1), digits(r.VA, 1), digits(r.PF, 3))
	if isKnown(r.Imbalance.NEMA) {
		fmt.Fprintf(w, "imbalance %s %% (NEMA)", digits(r.Imbalance.NEMA, 2))
		if r.Imbalance.HasIEC {
			fmt.Fprintf(w, ", %s %% (IEC)", digits(r.Imbalance.IEC, 2))
		}
		if r.Imbalance.LowLoad {
			fmt.Fprint(w, ", next to no load")
		}
		fmt.Fprintln(w)
	}
	for _, v := range []struct {
		what  string
		names []string
	}{{"over the rating", r.Headroom.Over}, {"over what may be drawn for hours", r.Headroom.OverContinuous}, {"near a limit", r.Headroom.Near}} {
		if len(v.names) > 0 {
			fmt.Fprintf(w, "%s: %s\n", v.what, strings.Join(v.names, ", "))
		}
	}
	if r.Problem != "" {
		fmt.Fprintf(w, "the loads were not used: %s\n", r.Problem)
	}
}

func printFailover(w io.Writer, r *power.Report) {
	s := r.Fail
	switch {
	case r.Peer == "":
		return
	case s == nil:
		if r.FailProblem != "" {
			fmt.Fprintf(w, "if %s fails: not known: %s\n", r.Peer, r.FailProblem)
		}
		return
	}
	fmt.Fprintf(w, "if %s fails: %s, %s %% of %s (%s of %s A)", r.Peer, s.Verdict, digits(100*s.Utilisation, 1), s.Worst, digits(s.WorstA, 3), digits(s.WorstLimit, 1))
	if len(s.Lost) > 0 {
		fmt.Fprintf(w, ", lost: %s", strings.Join(s.Lost, ", "))
	}
	if s.AssumedMirror {
		fmt.Fprint(w, "; as if every load had a cord in both")
	}
	fmt.Fprintln(w)
}

func printFinding(w io.Writer, f *power.Finding) {
	fmt.Fprintf(w, "%s  %-6s  %s  %s", ticksText(f.Modified), f.Change, f.Rule, f.PDU.ID)
	if f.Element != "" {
		fmt.Fprintf(w, " %s", f.Element)
	}
	switch f.Rule {
	case power.RuleImbalance:
		fmt.Fprintf(w, ": %s %%, limit %s %%", digits(f.ImbalancePct, 1), digits(f.LimitPct, 1))
	case power.RuleRedundancy:
		fmt.Fprintf(w, ": %s would carry %s %%", f.Peer, digits(f.LoadPct, 1))
	case power.RuleEnergy:
		fmt.Fprintf(w, ": %s kWh counted, %s kWh by the power", digits(f.CounterKWh, 3), digits(f.PowerKWh, 3))
	default:
		fmt.Fprintf(w, ": %s A on average, %s A at most, %s %%", digits(f.AvgA, 3), digits(f.MaxA, 3), digits(f.LoadPct, 1))
	}
	if f.Silenced {
		fmt.Fprint(w, " (silenced)")
	}
	fmt.Fprintln(w)
}

func printEnergy(w io.Writer, id string, t *energyTotal) {
	fmt.Fprintf(w, "%s  %s to %s", id, ticksText(t.from), ticksText(t.to))
	if t.counted > 0 {
		fmt.Fprintf(w, ", %s kWh by the counter", digits(t.counter, 3))
	}
	fmt.Fprintf(w, ", %s kWh by the power", digits(t.power, 3))
	if t.gaps > 1 { // there is one before the first reading
		fmt.Fprintf(w, " with %d gaps", t.gaps-1)
	}
	if t.odd > 0 {
		fmt.Fprintf(w, "; the counter was reset or not plausible %d times", t.odd)
	}
	fmt.Fprintln(w)
}

// amount is a number of the output: at most six digits behind the point, null where it is not
// known.
type amount float64

// MarshalJSON implements json.Marshaler.
func (v amount) MarshalJSON() ([]byte, error) {
	if !isKnown(float64(v)) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, math.Round(float64(v)*1e6)/1e6, 'f', -1, 64), nil
}

// amounts has three of them by name.
func amounts(names [3]string, v power.Three) map[string]amount {
	out := map[string]amount{}
	for k, name := range names {
		if name != "" && isKnown(v[k]) {
			out[name] = amount(v[k])
		}
	}
	return out
}

func writePowerJSON(w *bufio.Writer, v any) {
	b, err := json.Marshal(v)
	if err != nil { // amounts and text always can
		panic(err)
	}
	w.Write(b)        //nolint:errcheck // Flush tells
	w.WriteByte('\n') //nolint:errcheck // Flush tells
}

// loadLine is an instant of a PDU in JSON.
type loadLine struct {
	Type           string            `json:"type"` // load
	Time           string            `json:"time,omitempty"`
	PDU            string            `json:"pdu_id,omitempty"`
	Feed           string            `json:"feed,omitempty"`
	Group          string            `json:"group,omitempty"`
	Wiring         power.Wiring      `json:"wiring"`
	Line           map[string]amount `json:"line_a"`
	Computed       bool              `json:"line_computed"`
	LineHeadroom   map[string]amount `json:"line_headroom_a,omitempty"`
	LoadW          map[string]amount `json:"load_w,omitempty"`
	Branch         map[string]amount `json:"branch_a,omitempty"`
	Trip           map[string]amount `json:"branch_headroom_a,omitempty"`
	Continuous     map[string]amount `json:"branch_continuous_headroom_a,omitempty"`
	Breaker        map[string]amount `json:"breaker_a,omitempty"`
	Neutral        amount            `json:"neutral_a"`
	W              amount            `json:"w"`
	Var            amount            `json:"var"`
	VA             amount            `json:"va"`
	PF             amount            `json:"pf"`
	NEMA           amount            `json:"imbalance_nema_pct"`
	IEC            amount            `json:"imbalance_iec_pct"`
	LowLoad        bool              `json:"low_load"`
	Over           []string          `json:"over"`
	OverContinuous []string          `json:"over_continuous"`
	Near           []string          `json:"near"`
	Room           map[string]amount `json:"room_w,omitempty"`
	Energy         power.EnergyKind  `json:"energy_kind,omitempty"`
	KWh            amount            `json:"energy_kwh"`
	PowerKWh       amount            `json:"power_kwh"`
	Fail           *failLine         `json:"if_peer_fails,omitempty"`
	Problem        string            `json:"problem,omitempty"`
}

type failLine struct {
	Peer        string            `json:"peer_id"`
	Verdict     power.Verdict     `json:"verdict,omitempty"`
	Utilisation amount            `json:"utilisation"`
	Line        map[string]amount `json:"line_a,omitempty"`
	Branch      map[string]amount `json:"branch_a,omitempty"`
	Lost        []string          `json:"lost,omitempty"`
	Mirror      bool              `json:"assumed_mirror,omitempty"`
	Problem     string            `json:"problem,omitempty"`
}

func loadObject(r *power.Report) loadLine {
	out := loadLine{Type: "load", PDU: r.PDU.ID, Feed: r.PDU.Feed, Group: r.PDU.Group, Wiring: r.PDU.Wiring, Line: amounts(power.Lines, r.Line), Computed: r.Computed,
		LineHeadroom: amounts(power.Lines, r.Headroom.Line), LoadW: amounts(r.PDU.Wiring.Loads(), r.LoadW), Neutral: amount(r.Neutral),
		W: amount(r.W), Var: amount(r.Var), VA: amount(r.VA), PF: amount(r.PF), NEMA: amount(r.Imbalance.NEMA), IEC: amount(r.Imbalance.IEC), LowLoad: r.Imbalance.LowLoad,
		Over: orEmpty(r.Headroom.Over), OverContinuous: orEmpty(r.Headroom.OverContinuous), Near: orEmpty(r.Headroom.Near), Room: amounts(r.PDU.Wiring.Loads(), r.Room()),
		Energy: r.Energy.Kind, KWh: amount(r.Energy.KWh), PowerKWh: amount(r.PowerKWh), Problem: r.Problem}
	if r.At != 0 {
		out.Time = ticksText(r.At)
	} else {
		out.PDU = "" // of a description
	}
	if !r.Imbalance.HasIEC {
		out.IEC = amount(power.Unknown())
	}
	if r.Delta {
		out.Branch, out.Trip, out.Continuous = amounts(power.Branches, r.Branch), amounts(power.Branches, r.Headroom.Branch), amounts(power.Branches, r.Headroom.Continuous)
	}
	for _, b := range r.Banks {
		if out.Breaker == nil {
			out.Breaker = map[string]amount{}
		}
		out.Breaker[b.Name] = amount(b.A)
	}
	if r.Peer != "" {
		out.Fail = failObject(r)
	}
	return out
}

func failObject(r *power.Report) *failLine {
	s := r.Fail
	if s == nil {
		return &failLine{Peer: r.Peer, Utilisation: amount(power.Unknown()), Problem: r.FailProblem}
	}
	out := &failLine{Peer: r.Peer, Verdict: s.Verdict, Utilisation: amount(s.Utilisation), Line: amounts(power.Lines, s.Load.Line), Lost: s.Lost, Mirror: s.AssumedMirror}
	if s.Load.Delta {
		out.Branch = amounts(power.Branches, s.Load.Branch)
	}
	return out
}

func orEmpty(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}

// findingLine is a finding in JSON.
type findingLine struct {
	Type       string       `json:"type"` // finding
	Time       string       `json:"time"`
	UID        string       `json:"finding_uid"`
	N          int          `json:"n"`
	Change     power.Change `json:"activity"`
	Rule       power.Rule   `json:"rule"`
	PDU        string       `json:"pdu_id"`
	Element    string       `json:"phase,omitempty"`
	FailedFeed string       `json:"failed_feed,omitempty"`
	Peer       string       `json:"peer_id,omitempty"`
	Since      string       `json:"start_time"`
	Count      int64        `json:"count"`
	AvgA       amount       `json:"avg_a"`
	MaxA       amount       `json:"max_a"`
	LoadPct    amount       `json:"load_pct"`
	Imbalance  amount       `json:"imbalance_pct"`
	Limit      amount       `json:"limit_pct"`
	CounterKWh amount       `json:"counter_kwh"`
	PowerKWh   amount       `json:"power_kwh"`
	Silenced   bool         `json:"silenced"`
}

func findingObject(f *power.Finding) findingLine {
	return findingLine{"finding", ticksText(f.Modified), f.UID, f.N, f.Change, f.Rule, f.PDU.ID, f.Element, f.FailedFeed, f.Peer, ticksText(f.Since), f.Count,
		amount(f.AvgA), amount(f.MaxA), amount(f.LoadPct), amount(f.ImbalancePct), amount(f.LimitPct), amount(f.CounterKWh), amount(f.PowerKWh), f.Silenced}
}

// totalLine is what a PDU drew, in JSON.
type totalLine struct {
	Type     string `json:"type"` // energy
	PDU      string `json:"pdu_id"`
	From     string `json:"from"`
	To       string `json:"to"`
	KWh      amount `json:"energy_kwh"`
	PowerKWh amount `json:"power_kwh"`
	Gaps     int    `json:"gaps"`
	Odd      int    `json:"counter_resets"`
}

func totalObject(id string, t *energyTotal) totalLine {
	counter := power.Unknown()
	if t.counted > 0 {
		counter = t.counter
	}
	return totalLine{"energy", id, ticksText(t.from), ticksText(t.to), amount(counter), amount(t.power), max(t.gaps-1, 0), t.odd}
}
