package assets

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// earth is the mean radius.
const earth = 6_371_008.8

// Position is a place in WGS 84.
type Position struct{ Lat, Lon float64 }

func (p Position) validate() error {
	if !(math.Abs(p.Lat) <= 90) || !(math.Abs(p.Lon) <= 180) {
		return fmt.Errorf("position %v, %v: want a latitude of -90 to 90 and a longitude of -180 to 180", p.Lat, p.Lon)
	}
	return nil
}

// Distance is along the great circle.
func Distance(a, b Position) float64 {
	lat, lon := radians(b.Lat-a.Lat)/2, radians(b.Lon-a.Lon)/2
	h := math.Sin(lat)*math.Sin(lat) + math.Cos(radians(a.Lat))*math.Cos(radians(b.Lat))*math.Sin(lon)*math.Sin(lon)
	return 2 * earth * math.Asin(math.Sqrt(min(1, h)))
}

func radians(degrees float64) float64 { return degrees * math.Pi / 180 }

// Fence is a circle, or a polygon whose rings are counted by even and odd: later ones are
// holes. Polygons are less than 50 km across and do not cross the antimeridian.
type Fence struct {
	ID, Name, Kind string
	Center         Position
	Radius         float64 // of a circle, 0 for a polygon
	Rings          [][]Position

	origin  Position // of the plane of a polygon
	scale   float64  // metres of a degree of longitude there
	edges   []edge
	low     Position // bounding box
	high    Position
	surface float64
}

type edge struct{ ax, ay, bx, by float64 }

const (
	metresPerDegree = earth * math.Pi / 180
	widest          = 50_000 // of a polygon
)

// prepare checks a fence and computes what is needed to look at it often.
func (f *Fence) prepare() error {
	if f.ID == "" {
		return errors.New("a fence without id")
	}
	if f.Radius != 0 || len(f.Rings) == 0 {
		if !(f.Radius > 0) || math.IsInf(f.Radius, 0) {
			return fmt.Errorf("fence %s: radius %v: want a number above 0, or rings", f.ID, f.Radius)
		}
		if err := f.Center.validate(); err != nil {
			return fmt.Errorf("fence %s: %w", f.ID, err)
		}
		dLat := f.Radius / metresPerDegree
		dLon := 180.0 // round a pole
		if reach := math.Sin(min(math.Pi/2, f.Radius/earth)) / math.Cos(radians(f.Center.Lat)); reach >= 0 && reach < 1 {
			dLon = math.Asin(reach) * 180 / math.Pi
		}
		f.low, f.high = Position{f.Center.Lat - dLat, f.Center.Lon - dLon}, Position{f.Center.Lat + dLat, f.Center.Lon + dLon}
		f.surface = math.Pi * f.Radius * f.Radius
		return nil
	}
	f.low, f.high = Position{math.Inf(1), math.Inf(1)}, Position{math.Inf(-1), math.Inf(-1)}
	for i, ring := range f.Rings {
		if n := len(ring); n > 1 && ring[0] == ring[n-1] {
			ring = ring[:n-1]
		}
		if len(ring) < 3 {
			return fmt.Errorf("fence %s: ring %d has %d corners, want 3 or more", f.ID, i, len(ring))
		}
		f.Rings[i] = ring
		for _, p := range ring {
			if err := p.validate(); err != nil {
				return fmt.Errorf("fence %s: ring %d: %w", f.ID, i, err)
			}
			f.low = Position{min(f.low.Lat, p.Lat), min(f.low.Lon, p.Lon)}
			f.high = Position{max(f.high.Lat, p.Lat), max(f.high.Lon, p.Lon)}
		}
	}
	f.origin = Position{(f.low.Lat + f.high.Lat) / 2, (f.low.Lon + f.high.Lon) / 2}
	f.scale = metresPerDegree * math.Cos(radians(f.origin.Lat))
	if w, h := (f.high.Lon-f.low.Lon)*f.scale, (f.high.Lat-f.low.Lat)*metresPerDegree; w > widest || h > widest {
		return fmt.Errorf("fence %s: %.0f by %.0f m: want less than 50 km: split it, at the antimeridian too", f.ID, w, h)
	}
	f.edges, f.surface = nil, 0
	for i, ring := range f.Rings {
		area := 0.0
		for k, p := range ring {
			ax, ay := f.plane(p)
			bx, by := f.plane(ring[(k+1)%len(ring)])
			f.edges = append(f.edges, edge{ax, ay, bx, by})
			area += (ax*by - bx*ay) / 2
		}
		if f.hole(i) {
			f.surface -= math.Abs(area)
		} else {
			f.surface += math.Abs(area)
		}
	}
	return nil
}

// hole tells whether ring i lies in an odd number of others. Rings do not cross.
func (f *Fence) hole(i int) bool {
	p, odd := f.Rings[i][0], false
	for k, ring := range f.Rings {
		if k == i {
			continue
		}
		for j, a := range ring {
			b := ring[(j+1)%len(ring)]
			if (a.Lat > p.Lat) != (b.Lat > p.Lat) && p.Lon < a.Lon+(p.Lat-a.Lat)/(b.Lat-a.Lat)*(b.Lon-a.Lon) {
				odd = !odd
			}
		}
	}
	return odd
}

// plane returns metres east and north of the origin.
func (f *Fence) plane(p Position) (x, y float64) {
	return (p.Lon - f.origin.Lon) * f.scale, (p.Lat - f.origin.Lat) * metresPerDegree
}

// Outside is the distance of p from the boundary: negative inside, 0 on it.
func (f *Fence) Outside(p Position) float64 {
	if f.edges == nil {
		return Distance(f.Center, p) - f.Radius
	}
	x, y := f.plane(p)
	nearest, inside := math.Inf(1), false
	for i := range f.edges {
		e := &f.edges[i]
		nearest = min(nearest, e.squared(x, y))
		if (e.ay > y) != (e.by > y) && x < e.ax+(y-e.ay)/(e.by-e.ay)*(e.bx-e.ax) {
			inside = !inside
		}
	}
	if inside {
		return -math.Sqrt(nearest)
	}
	return math.Sqrt(nearest)
}

// squared is the square of the distance to an edge.
func (e *edge) squared(x, y float64) float64 {
	dx, dy := e.bx-e.ax, e.by-e.ay
	t := 0.0
	if length := dx*dx + dy*dy; length > 0 {
		t = min(1, max(0, ((x-e.ax)*dx+(y-e.ay)*dy)/length))
	}
	dx, dy = x-e.ax-t*dx, y-e.ay-t*dy
	return dx*dx + dy*dy
}

// cellsPerDegree makes cells of a hundredth of a degree.
const cellsPerDegree = 100

type cell struct{ lat, lon int32 }

func cellOf(p Position) cell {
	return cell{int32(math.Floor(p.Lat * cellsPerDegree)), int32(math.Floor(p.Lon * cellsPerDegree))}
}

// round brings a longitude beyond the antimeridian back: a circle may lie on it.
func (c cell) round() cell {
	const all, half = 360 * cellsPerDegree, 180 * cellsPerDegree
	switch {
	case c.lon < -half:
		c.lon += all
	case c.lon >= half:
		c.lon -= all
	}
	return c
}

// Fences is a set of fences with an index by cells.
type Fences struct {
	all   []Fence
	byID  map[string]int32
	cells map[cell][]int32
	large []int32 // fences of more cells than an index is good for
}

// mostCells is how many cells a fence may be in before every fix looks at it.
const mostCells = 10_000

// NewFences prepares fences, in their order. Margin is how far outside of a fence it is still
// looked at. The error has every problem.
func NewFences(fences []Fence, margin float64) (*Fences, error) {
	s := &Fences{all: slices.Clone(fences), byID: map[string]int32{}, cells: map[cell][]int32{}}
	var errs []error
	for i := range s.all {
		f := &s.all[i]
		f.Rings = slices.Clone(f.Rings)
		if err := f.prepare(); err != nil {
			errs = append(errs, err)
			continue
		}
		if _, twice := s.byID[f.ID]; twice {
			errs = append(errs, fmt.Errorf("fence %s is there twice", f.ID))
		}
		s.byID[f.ID] = int32(i)
		s.index(int32(i), margin)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Fences) index(i int32, margin float64) {
	f := &s.all[i]
	dLat := margin / metresPerDegree
	dLon := dLat / max(math.Cos(radians(max(math.Abs(f.low.Lat), math.Abs(f.high.Lat)))), 1e-6)
	low, high := cellOf(Position{f.low.Lat - dLat, f.low.Lon - dLon}), cellOf(Position{f.high.Lat + dLat, f.high.Lon + dLon})
	if float64(high.lat-low.lat+1)*float64(high.lon-low.lon+1) > mostCells {
		s.large = append(s.large, i)
		return
	}
	for lat := low.lat; lat <= high.lat; lat++ {
		for lon := low.lon; lon <= high.lon; lon++ {
			at := cell{lat, lon}.round()
			s.cells[at] = append(s.cells[at], i)
		}
	}
}

// Len is the number of fences.
func (s *Fences) Len() int { return len(s.all) }

// Has tells whether there is a fence of an id.
func (s *Fences) Has(id string) bool {
	_, ok := s.byID[id]
	return ok
}

// At returns the i-th fence.
func (s *Fences) At(i int) *Fence { return &s.all[i] }

// near appends the fences that may hold p, or have it in their margin, in their order.
func (s *Fences) near(dst []int32, p Position) []int32 {
	dst = append(dst, s.cells[cellOf(p).round()]...)
	if len(s.large) > 0 {
		dst = append(dst, s.large...)
		slices.Sort(dst)
	}
	return dst
}

// Primary returns the smallest of the fences, by place in the set, -1 for none.
func (s *Fences) Primary(of []int32) int32 {
	best := int32(-1)
	for _, i := range of {
		if best < 0 || s.all[i].surface < s.all[best].surface {
			best = i
		}
	}
	return best
}
