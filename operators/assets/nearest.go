package assets

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unique"
)

// NearestConfig says when an asset belongs to another gateway.
type NearestConfig struct {
	Alpha   float64 // weight of the newest window in the exponential mean
	Margin  float64 // dB by which a gateway must be louder than the owner
	Windows int     // in a row
	Unheard int     // windows after which an owner that nobody hears is given up at once
}

// DefaultNearestConfig is the one of the reference.
func DefaultNearestConfig() NearestConfig {
	return NearestConfig{Alpha: 0.3, Margin: 6, Windows: 2, Unheard: 3}
}

// Validate returns every problem.
func (c NearestConfig) Validate() error {
	var errs []error
	if !(c.Alpha > 0 && c.Alpha <= 1) {
		errs = append(errs, fmt.Errorf("alpha %v: want above 0, up to 1", c.Alpha))
	}
	if !(c.Margin >= 0) {
		errs = append(errs, fmt.Errorf("margin %v dB: must not be negative", c.Margin))
	}
	if c.Windows < 1 || c.Unheard < 1 {
		errs = append(errs, fmt.Errorf("windows %d and unheard %d: want at least 1", c.Windows, c.Unheard))
	}
	return errors.Join(errs...)
}

// Loudness is the median RSSI of a gateway in a window.
type Loudness struct {
	Gateway string
	RSSI    float64
}

// Mean is a gateway's exponential mean.
type Mean struct {
	Gateway string
	RSSI    float64
	Unheard int // windows in a row in which it was not heard
}

// mean is Mean as it is kept: there are many.
type mean struct {
	gateway unique.Handle[string]
	rssi    float64
	unheard int32
}

// What is remembered of an asset that travels is bounded: the owner, and gateways that were heard
// in the last staleAfter windows, up to mostMeans of them. One that is heard again after that
// begins anew.
const (
	staleAfter = 60
	mostMeans  = 32
)

// Why an owner changed.
const (
	WhyFirst    = "first"
	WhyStronger = "stronger"
	WhyLost     = "lost" // the owner was not heard for too long
)

// Change is a new owner. Before is empty with the first.
type Change struct{ Owner, Before, Why string }

// Nearest is the state of one asset; the zero value has no owner.
type Nearest struct {
	Owner      string
	means      []mean // by gateway
	Challenger string // louder than the owner by the margin, Wins windows in a row
	Wins       int
}

// Window takes what a window heard, each gateway at most once. One that heard nothing at all
// says nothing of gateways but that they were not heard.
func (n *Nearest) Window(cfg *NearestConfig, heard []Loudness) (Change, bool) {
	n.pass(1)
	for _, h := range heard {
		i, there := n.find(h.Gateway)
		if !there {
			n.means = insert(n.means, i, mean{gateway: unique.Make(h.Gateway), rssi: h.RSSI})
			continue
		}
		m := &n.means[i]
		m.rssi, m.unheard = cfg.Alpha*h.RSSI+(1-cfg.Alpha)*m.rssi, 0
	}
	n.forget()
	best, ok := n.best()
	owner, owned := n.Mean(n.Owner)
	switch {
	case !ok: // an empty window is between those around it
		n.Challenger, n.Wins = "", 0
	case !owned:
		return n.change(best.Gateway, WhyFirst), true
	case best.Gateway == n.Owner:
		n.Challenger, n.Wins = "", 0
	case owner.Unheard >= cfg.Unheard:
		return n.change(best.Gateway, WhyLost), true
	case best.RSSI-owner.RSSI < cfg.Margin:
		n.Challenger, n.Wins = "", 0
	default:
		if n.Challenger != best.Gateway {
			n.Challenger, n.Wins = best.Gateway, 0
		}
		if n.Wins++; n.Wins >= cfg.Windows {
			return n.change(best.Gateway, WhyStronger), true
		}
	}
	return Change{}, false
}

// Skip passes over windows that heard nothing, as Window does with each of them.
func (n *Nearest) Skip(windows int64) {
	if windows > 0 {
		n.pass(windows)
		n.Challenger, n.Wins = "", 0
	}
}

func (n *Nearest) pass(windows int64) {
	for i := range n.means {
		n.means[i].unheard = int32(min(int64(n.means[i].unheard)+windows, math.MaxInt32))
	}
}

// forget drops gateways that were not heard for long, and beyond mostMeans those that were not
// heard for longest, of equals the weaker ones.
func (n *Nearest) forget() {
	n.means = slices.DeleteFunc(n.means, func(m mean) bool { return m.unheard > staleAfter && m.gateway.Value() != n.Owner })
	if len(n.means) > mostMeans {
		owner := func(m mean) int {
			if m.gateway.Value() == n.Owner {
				return 0
			}
			return 1
		}
		slices.SortFunc(n.means, func(a, b mean) int {
			return cmp.Or(owner(a)-owner(b), cmp.Compare(a.unheard, b.unheard), cmp.Compare(b.rssi, a.rssi), cmp.Compare(a.gateway.Value(), b.gateway.Value()))
		})
		n.means = slices.Delete(n.means, mostMeans, len(n.means))
		slices.SortFunc(n.means, func(a, b mean) int { return cmp.Compare(a.gateway.Value(), b.gateway.Value()) })
	}
	if cap(n.means) > 2*len(n.means)+2 {
		n.means = slices.Clone(n.means)
	}
}

// best is the loudest mean of those that the window heard, of equals the first by name.
func (n *Nearest) best() (Mean, bool) {
	best, ok := Mean{RSSI: math.Inf(-1)}, false
	for i := range n.means {
		if m := n.means[i].mean(); m.Unheard == 0 && m.RSSI > best.RSSI {
			best, ok = m, true
		}
	}
	return best, ok
}

func (m *mean) mean() Mean { return Mean{m.gateway.Value(), m.rssi, int(m.unheard)} }

// Mean is that of a gateway; false when there is none.
func (n *Nearest) Mean(gateway string) (Mean, bool) {
	i, there := n.find(gateway)
	if !there || gateway == "" {
		return Mean{}, false
	}
	return n.means[i].mean(), true
}

// Means are those of all gateways, by name.
func (n *Nearest) Means() []Mean {
	out := make([]Mean, 0, len(n.means))
	for i := range n.means {
		out = append(out, n.means[i].mean())
	}
	return out
}

func (n *Nearest) find(gateway string) (int, bool) {
	return slices.BinarySearchFunc(n.means, gateway, func(m mean, g string) int { return strings.Compare(m.gateway.Value(), g) })
}

func (n *Nearest) change(to, why string) Change {
	c := Change{to, n.Owner, why}
	n.Owner, n.Challenger, n.Wins = to, "", 0
	return c
}

// Metres is a guess of how far a tag is that is sent with tx dBm at 1 m and heard with rssi.
func Metres(tx, rssi float64) float64 {
	const exponent = 2 // of free space
	return math.Pow(10, (tx-rssi)/(10*exponent))
}
