package assets

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
)

// ParseFences reads fences from a GeoJSON FeatureCollection (RFC 7946), in its order. A Polygon or
// MultiPolygon is one fence, whose rings count by even and odd; a Point with property radius_m is a
// circle. Properties: id (else the id of the feature), name, kind; others are not looked at. The
// error has every problem, each with the feature, the member, and what is wanted there.
func ParseFences(text []byte) ([]Fence, error) {
	var file struct {
		Type     string            `json:"type"`
		Features []json.RawMessage `json:"features"`
		CRS      json.RawMessage   `json:"crs"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("no GeoJSON: %w%s", err, lineOf(text, err))
	}
	if file.Type != "FeatureCollection" {
		return nil, fmt.Errorf("type %q: want a FeatureCollection; put the fence into its features", file.Type)
	}
	if err := checkCRS(file.CRS); err != nil {
		return nil, err
	}
	if len(file.Features) == 0 {
		return nil, errors.New("features: none: want a fence at least")
	}
	var errs []error
	fences := make([]Fence, 0, len(file.Features))
	first := map[string]int{}
	for i, raw := range file.Features {
		f, err := parseFeature(raw)
		if err == nil {
			err = (&Fence{ID: f.ID, Center: f.Center, Radius: f.Radius, Rings: append([][]Position(nil), f.Rings...)}).prepare()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("features[%d]: %w", i, err))
			continue
		}
		if k, twice := first[f.ID]; twice {
			errs = append(errs, fmt.Errorf("features[%d]: properties.id: %q is that of features[%d]: give every fence its own", i, f.ID, k))
			continue
		}
		first[f.ID] = i
		fences = append(fences, f)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return fences, nil
}

// lineOf says on which line an error of package json is, where that is known.
func lineOf(text []byte, err error) string {
	at := int64(-1)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.As(err, &kind):
		at = kind.Offset
	}
	if at < 0 || at > int64(len(text)) {
		return ""
	}
	return fmt.Sprintf(" (line %d)", 1+bytes.Count(text[:at], []byte{'\n'}))
}

// checkCRS refuses another datum than WGS 84, which files from before RFC 7946 may name.
func checkCRS(raw json.RawMessage) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var crs struct {
		Properties struct {
			Name string `json:"name"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(raw, &crs); err == nil {
		for _, name := range []string{"CRS84", "EPSG::4326", "EPSG:4326"} {
			if strings.HasSuffix(crs.Properties.Name, name) {
				return nil
			}
		}
	}
	return fmt.Errorf("crs %s: want longitudes and latitudes of WGS 84: convert the file, then leave crs out", bytes.TrimSpace(raw))
}

func parseFeature(raw json.RawMessage) (Fence, error) {
	var feature struct {
		Type       string          `json:"type"`
		ID         json.RawMessage `json:"id"`
		Properties struct {
			ID     json.RawMessage `json:"id"`
			Name   string          `json:"name"`
			Kind   string          `json:"kind"`
			Radius *float64        `json:"radius_m"`
		} `json:"properties"`
		Geometry *geometry `json:"geometry"`
	}
	if err := json.Unmarshal(raw, &feature); err != nil {
		return Fence{}, memberError(err)
	}
	p := feature.Properties
	f := Fence{Name: p.Name, Kind: p.Kind}
	if feature.Type != "Feature" {
		return f, fmt.Errorf("type: %q: want Feature", feature.Type)
	}
	var err error
	if f.ID, err = parseID(p.ID, feature.ID); err != nil {
		return f, err
	}
	if feature.Geometry == nil {
		return f, errors.New("geometry: none: want a Polygon, a MultiPolygon, or a Point with properties.radius_m")
	}
	g := feature.Geometry
	switch {
	case g.Type == "Point" && p.Radius == nil:
		return f, errors.New("properties.radius_m: missing: a Point is the centre of a circle: give its radius in metres")
	case g.Type == "Point" && !(*p.Radius > 0):
		return f, fmt.Errorf("properties.radius_m: %v: want metres above 0", *p.Radius)
	case g.Type == "Point":
		f.Radius = *p.Radius
	case p.Radius != nil:
		return f, fmt.Errorf("properties.radius_m: a %s has none: leave it out, or draw a Point", g.Type)
	}
	return f, g.into(&f)
}

// memberError names the member as JSON paths do.
func memberError(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		return fmt.Errorf("%s: a JSON %s: want %s", kind.Field, kind.Value, wantedJSON(kind.Type.Kind().String()))
	}
	return fmt.Errorf("no feature: %w", err)
}

func wantedJSON(kind string) string {
	switch kind {
	case "float64":
		return "a number"
	case "struct":
		return "an object"
	case "slice":
		return "an array"
	}
	return "text"
}

// parseID takes the first that is there; a number is an id as it is spelled.
func parseID(of ...json.RawMessage) (string, error) {
	for _, raw := range of {
		if len(raw) == 0 || string(raw) == "null" {
			continue
		}
		var text string
		var number json.Number
		switch {
		case json.Unmarshal(raw, &text) == nil && text != "":
			return text, nil
		case raw[0] != '"' && json.Unmarshal(raw, &number) == nil:
			return number.String(), nil
		}
		return "", fmt.Errorf("properties.id: %s: want text that is not empty", raw)
	}
	return "", errors.New("properties.id: missing: give the fence an id, which its events carry")
}

type geometry struct {
	Type        string          `json:"type"`
	Coordinates json.RawMessage `json:"coordinates"`
}

// into sets the place of a fence.
func (g *geometry) into(f *Fence) error {
	const at = "geometry.coordinates"
	var err error
	switch g.Type {
	case "Point":
		var p []float64
		if err = g.read(&p); err == nil {
			f.Center, err = parsePosition(at, p)
		}
	case "Polygon":
		var rings [][][]float64
		if err = g.read(&rings); err == nil {
			f.Rings, err = appendRings(nil, at, rings)
		}
	case "MultiPolygon":
		var parts [][][][]float64
		if err = g.read(&parts); err == nil && len(parts) == 0 {
			err = fmt.Errorf("%s: empty: want a polygon at least", at)
		}
		for i, rings := range parts {
			if err == nil {
				f.Rings, err = appendRings(f.Rings, fmt.Sprintf("%s[%d]", at, i), rings)
			}
		}
	default:
		err = fmt.Errorf("geometry.type: %q: want Polygon, MultiPolygon, or Point with properties.radius_m", g.Type)
	}
	return err
}

func (g *geometry) read(to any) error {
	if err := json.Unmarshal(g.Coordinates, to); err != nil {
		return fmt.Errorf("geometry.coordinates: not those of a %s: %w", g.Type, err)
	}
	return nil
}

func appendRings(dst [][]Position, at string, rings [][][]float64) ([][]Position, error) {
	if len(rings) == 0 {
		return nil, fmt.Errorf("%s: no ring: want the outer one at least", at)
	}
	for i, ring := range rings {
		at := fmt.Sprintf("%s[%d]", at, i)
		if len(ring) < 4 {
			return nil, fmt.Errorf("%s: %d positions: want 4 at least, the last the same as the first", at, len(ring))
		}
		var corners []Position
		for k, xy := range ring {
			p, err := parsePosition(fmt.Sprintf("%s[%d]", at, k), xy)
			if err != nil {
				return nil, err
			}
			corners = append(corners, p)
		}
		if corners[0] != corners[len(corners)-1] {
			return nil, fmt.Errorf("%s: ends at another place than it begins: repeat the first position at the end", at)
		}
		dst = append(dst, corners)
	}
	return dst, nil
}

// parsePosition takes longitude and latitude; an altitude behind them is not looked at.
func parsePosition(at string, xy []float64) (Position, error) {
	if len(xy) < 2 {
		return Position{}, fmt.Errorf("%s: %v: want longitude and latitude", at, xy)
	}
	p := Position{Lat: xy[1], Lon: xy[0]}
	if err := p.validate(); err != nil {
		hint := ""
		if math.Abs(xy[0]) <= 90 && math.Abs(xy[1]) <= 180 {
			hint = "; the longitude comes first"
		}
		return p, fmt.Errorf("%s: %w%s", at, err, hint)
	}
	return p, nil
}
