package assets

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
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
	Means      []Mean // by gateway
	Challenger string // louder than the owner by the margin, Wins windows in a row
	Wins       int
}

// Window takes what a window heard, each gateway at most once. One that heard nothing at all
// says nothing of gateways but that they were not heard.
func (n *Nearest) Window(cfg *NearestConfig, heard []Loudness) (Change, bool) {
	for i := range n.Means {
		n.Means[i].Unheard++
	}
	for _, h := range heard {
		i, there := slices.BinarySearchFunc(n.Means, h.Gateway, func(m Mean, g string) int { return strings.Compare(m.Gateway, g) })
		if !there {
			n.Means = slices.Insert(n.Means, i, Mean{Gateway: h.Gateway, RSSI: h.RSSI})
			continue
		}
		m := &n.Means[i]
		m.RSSI, m.Unheard = cfg.Alpha*h.RSSI+(1-cfg.Alpha)*m.RSSI, 0
	}
	best, ok := n.best()
	owner := n.mean(n.Owner)
	switch {
	case !ok: // an empty window is between those around it
		n.Challenger, n.Wins = "", 0
	case owner == nil:
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

// best is the loudest mean of those that the window heard, of equals the first by name.
func (n *Nearest) best() (Mean, bool) {
	best, ok := Mean{RSSI: math.Inf(-1)}, false
	for _, m := range n.Means {
		if m.Unheard == 0 && m.RSSI > best.RSSI {
			best, ok = m, true
		}
	}
	return best, ok
}

func (n *Nearest) mean(gateway string) *Mean {
	i, there := slices.BinarySearchFunc(n.Means, gateway, func(m Mean, g string) int { return strings.Compare(m.Gateway, g) })
	if !there || gateway == "" {
		return nil
	}
	return &n.Means[i]
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
