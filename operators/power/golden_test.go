package power_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/tidemark/tidemark/operators/power"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// three is one number for all or three of them.
type three power.Three

func (t *three) UnmarshalJSON(b []byte) error {
	var one float64
	if err := json.Unmarshal(b, &one); err == nil {
		*t = three{one, one, one}
		return nil
	}
	return json.Unmarshal(b, (*[3]float64)(t))
}

// goldenInput is the input of every kind of case.
type goldenInput struct {
	VLL       three         `json:"v_ll"`
	VLN       three         `json:"v_ln"`
	BranchW   *power.Three  `json:"branch_w"`
	BranchWPF *[3][]float64 `json:"branch_w_pf"`
	PhaseW    *power.Three  `json:"phase_w"`
	PhaseWPF  *[3][]float64 `json:"phase_w_pf"`
	RatedA    float64       `json:"rated_line_a"`
	BreakerA  float64       `json:"breaker_a"`
	Devices   []struct {
		Name  string   `json:"name"`
		W     float64  `json:"w"`
		A     string   `json:"a"`
		B     string   `json:"b"`
		Share *float64 `json:"share"`
	} `json:"devices"`
	Readings   [][2]float64 `json:"readings"`
	WrapKWh    float64      `json:"wrap_kwh"`
	MaxW       float64      `json:"max_w"`
	Resolution *float64     `json:"resolution_kwh"`
}

// TestGolden runs the golden cases of this package.
func TestGolden(t *testing.T) {
	t.Run("pdu", func(t *testing.T) {
		var cases []struct {
			ID     int         `json:"id"`
			Name   string      `json:"name"`
			Kind   string      `json:"kind"`
			Input  goldenInput `json:"input"`
			Expect any         `json:"expect"`
			Note   string      `json:"note"`
		}
		if pipelinetest.Strict(t, pipelinetest.Golden(t, "pdu.json"), &cases); len(cases) == 0 {
			t.Fatal("no cases")
		}
		for _, c := range cases {
			t.Run(fmt.Sprint(c.ID), func(t *testing.T) {
				got, err := c.Input.result(c.Kind)
				if err != nil {
					t.Fatalf("%s: %v", c.Name, err)
				}
				if d := pipelinetest.Difference(got, c.Expect); d != "" {
					t.Errorf("%s: %s", c.Name, d)
				}
			})
		}
	})
}

func (in *goldenInput) limits() power.Limits {
	l := power.DefaultLimits()
	l.LineA, l.BreakerA = in.RatedA, in.BreakerA
	return l
}

func draws(w *power.Three, pf *[3][]float64) (out [3]power.Draw) {
	if w != nil {
		return power.Unity(*w)
	}
	for i, d := range pf {
		out[i] = power.Draw{W: d[0], PF: 1}
		if len(d) > 1 {
			out[i].PF = d[1]
		}
	}
	return out
}

// result computes a case and returns it in the form of what cases expect.
func (in *goldenInput) result(kind string) (any, error) {
	limits := in.limits()
	switch kind {
	case "delta":
		l, err := power.Delta(power.Three(in.VLL), draws(in.BranchW, in.BranchWPF))
		return loadResult(l, limits), err
	case "wye":
		l, err := power.Wye(power.Three(in.VLN), draws(in.PhaseW, in.PhaseWPF))
		return loadResult(l, limits), err
	case "room":
		r, err := power.Room(power.Three(in.VLL), *in.BranchW, limits)
		return named(power.Branches, r), err
	case "voltage_unbalance":
		out := map[string]any{"nema_pct": power.NEMA(power.Three(in.VLL)), "iec_pct": nil}
		if iec, ok := power.IEC(power.Three(in.VLL)); ok {
			out["iec_pct"] = iec
		}
		return out, nil
	case "failover":
		var devices []power.Device
		for _, d := range in.Devices {
			device := power.Device{Name: d.Name, W: d.W, A: d.A, B: d.B, ShareA: 0.5}
			if d.Share != nil {
				device.ShareA = *d.Share
			}
			devices = append(devices, device)
		}
		s, err := power.Failover(power.Three(in.VLL), devices, limits)
		return map[string]any{"fail_A": survivorResult(s[0]), "fail_B": survivorResult(s[1])}, err
	case "energy":
		cfg := power.DefaultEnergyConfig()
		cfg.MaxW, cfg.WrapKWh = in.MaxW, in.WrapKWh
		if in.Resolution != nil {
			cfg.ResolutionKWh = *in.Resolution
		}
		var s power.EnergyCounter
		out := []any{}
		for _, r := range in.Readings {
			e := s.Read(cfg, int64(r[0]*1e6), r[1])
			if e.Kind == power.EnergyFirst {
				continue
			}
			row := map[string]any{"ts": r[0], "kind": string(e.Kind), "delta_kwh": nil, "avg_w": nil}
			if e.Added {
				row["delta_kwh"], row["avg_w"] = e.KWh, e.AvgW
			}
			out = append(out, row)
		}
		return out, cfg.Validate()
	}
	return nil, fmt.Errorf("unknown kind %q", kind)
}

func named(names [3]string, v power.Three) map[string]any {
	return map[string]any{names[0]: v[0], names[1]: v[1], names[2]: v[2]}
}

func list(names []string) []any {
	out := []any{}
	for _, n := range names {
		out = append(out, n)
	}
	return out
}

func loadResult(l power.Load, limits power.Limits) map[string]any {
	h, im := l.Headroom(limits), l.Imbalance()
	out := map[string]any{
		"line_a": named(power.Lines, l.Line), "total_w": l.W, "total_var": l.Var, "total_va": l.VA, "total_va_arithmetic": l.VAArithSum, "pf": nil,
		"imbalance_nema_pct": im.NEMA, "line_headroom_a": named(power.Lines, h.Line), "over": list(h.Over), "over_continuous": list(h.OverContinuous),
	}
	if l.HasPF {
		out["pf"] = l.PF
	}
	if l.Delta {
		out["branch_a"] = named(power.Branches, l.Branch)
		out["branch_headroom_a"], out["branch_continuous_headroom_a"] = named(power.Branches, h.Branch), named(power.Branches, h.Continuous)
		out["imbalance_iec_pct"] = im.IEC
	} else {
		out["neutral_a"] = l.Neutral
	}
	return out
}

func survivorResult(s power.Survivor) map[string]any {
	return map[string]any{"surviving_feed_branch_w": named(power.Branches, s.BranchW), "line_a": named(power.Lines, s.Load.Line),
		"branch_a": named(power.Branches, s.Load.Branch), "lost": list(s.Lost), "utilisation": s.Utilisation, "verdict": string(s.Verdict)}
}
