package power

import "math"

// LowLoad is the mean current, in A, below which three currents are not said to be unbalanced.
const LowLoad = 0.1

// NEMA returns 100 times the largest difference from the mean of the three, over the mean;
// 0 when the mean is 0.
func NEMA(x Three) float64 {
	mean := (x[0] + x[1] + x[2]) / 3
	if mean == 0 {
		return 0
	}
	var most float64
	for _, v := range x {
		most = max(most, math.Abs(v-mean))
	}
	return 100 * most / mean
}

// IEC returns 100 times negative over positive sequence, of three magnitudes whose phasors
// add up to zero: voltages between lines, or currents of a feed without neutral. Magnitudes
// that make no triangle have none.
func IEC(x Three) (pct float64, ok bool) {
	var squares, fourths float64
	for _, v := range x {
		squares += v * v
		fourths += v * v * v * v
	}
	if squares == 0 {
		return 0, true
	}
	rest := 3 - 6*fourths/(squares*squares)
	if rest < -1e-9 {
		return 0, false
	}
	r := math.Sqrt(max(rest, 0))
	return 100 * math.Sqrt((1-r)/(1+r)), true
}

// Imbalance is that of three line currents.
type Imbalance struct {
	NEMA    float64
	IEC     float64
	HasIEC  bool // not where a neutral carries the difference
	LowLoad bool // too little to be unbalanced: the others are 0
}

// Imbalance computes the imbalance of the line currents.
func (l Load) Imbalance() Imbalance {
	if (l.Line[0]+l.Line[1]+l.Line[2])/3 < LowLoad {
		return Imbalance{HasIEC: l.Delta, LowLoad: true}
	}
	out := Imbalance{NEMA: NEMA(l.Line)}
	if l.Delta {
		out.IEC, out.HasIEC = IEC(l.Line)
	}
	return out
}
