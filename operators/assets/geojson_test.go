package assets_test

import (
	"math"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/operators/assets"
)

const fencesText = `{"type": "FeatureCollection", "name": "sites", "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}, "features": [
 {"type": "Feature", "properties": {"id": "yard", "name": "Yard", "kind": "depot", "colour": "red"}, "geometry": {"type": "Polygon", "coordinates":
  [[[5.00, 52.00], [5.02, 52.00], [5.02, 52.01], [5.00, 52.01], [5.00, 52.00]], [[5.009, 52.004], [5.011, 52.004], [5.011, 52.006], [5.009, 52.006], [5.009, 52.004]]]}},
 {"type": "Feature", "id": 17, "properties": {"name": null}, "geometry": {"type": "MultiPolygon", "coordinates": [
  [[[5.10, 52.00, 3.5], [5.11, 52.00, 3.5], [5.11, 52.01, 3.5], [5.10, 52.00, 3.5]]],
  [[[5.20, 52.00], [5.21, 52.00], [5.21, 52.01], [5.20, 52.01], [5.20, 52.00]]]]}},
 {"type": "Feature", "properties": {"id": "pole", "radius_m": 150}, "geometry": {"type": "Point", "coordinates": [5.3, 52]}}
]}`

func TestParseFences(t *testing.T) {
	fences, err := assets.ParseFences([]byte(fencesText))
	if err != nil {
		t.Fatal(err)
	}
	set, err := assets.NewFences(fences, 50)
	if err != nil {
		t.Fatal(err)
	}
	if set.Len() != 3 || set.At(0).Name != "Yard" || set.At(0).Kind != "depot" || set.At(1).ID != "17" || set.At(2).Radius != 150 {
		t.Errorf("%+v", fences)
	}
	for _, c := range []struct {
		fence    int
		lat, lon float64
		inside   bool
	}{
		{0, 52.002, 5.001, true}, {0, 52.005, 5.010, false}, // the hole
		{1, 52.001, 5.109, true}, {1, 52.005, 5.205, true}, {1, 52.005, 5.15, false}, {1, 52.009, 5.101, false},
		{2, 52.001, 5.3, true}, {2, 52.002, 5.3, false},
	} {
		if d := set.At(c.fence).Outside(assets.Position{Lat: c.lat, Lon: c.lon}); (d <= 0) != c.inside {
			t.Errorf("fence %d at %v, %v: %v m", c.fence, c.lat, c.lon, d)
		}
	}
	// One part is half of the other: the fence of both is the larger one, a hole takes away.
	if p := set.Primary([]int32{0, 1}); p != 1 {
		t.Errorf("primary %d: the yard is larger than both parts", p)
	}
}

// TestSurface: what Primary compares, of parts in any order and an island in a hole.
func TestSurface(t *testing.T) {
	ring := func(half float64) []assets.Position { return square(depot, half) }
	set, err := assets.NewFences([]assets.Fence{
		{ID: "island first", Rings: [][]assets.Position{ring(10), ring(100), ring(50)}}, // 400 + 40,000 - 10,000
		{ID: "larger", Rings: [][]assets.Position{ring(87.3)}},                          // 30,485
		{ID: "smaller", Rings: [][]assets.Position{ring(87.1)}},                         // 30,346
	}, 50)
	if err != nil {
		t.Fatal(err)
	}
	if set.Primary([]int32{0, 1}) != 0 || set.Primary([]int32{0, 2}) != 2 {
		t.Error("the surface of an island in a hole is wrong")
	}
}

// TestFencesAtTheEdge: circles on the antimeridian and round a pole are found from both sides.
func TestFencesAtTheEdge(t *testing.T) {
	cfg := assets.DefaultGeofenceConfig()
	set, err := assets.NewFences([]assets.Fence{
		{ID: "date line", Center: assets.Position{Lat: -16.8, Lon: 179.999}, Radius: 500},
		{ID: "pole", Center: assets.Position{Lat: 89.9999, Lon: 20}, Radius: 500},
		{ID: "wide", Center: assets.Position{Lat: 70, Lon: 0}, Radius: 100_000},
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   assets.Position
		want int32
	}{
		{assets.Position{Lat: -16.8, Lon: 179.997}, 0}, {assets.Position{Lat: -16.8, Lon: -179.998}, 0}, {assets.Position{Lat: -16.8, Lon: 180}, 0}, {assets.Position{Lat: -16.8, Lon: -180}, 0},
		{assets.Position{Lat: 89.997, Lon: -160}, 1},
		{assets.Position{Lat: 70.0201, Lon: 2.6295}, 2}, // just inside, where the circle is widest
	} {
		var tracker assets.Tracker
		var events []assets.GeofenceEvent
		for i := range int64(3) {
			events = tracker.Fix(&cfg, set, assets.Fix{At: i * 30 * second, Position: c.at}, events)
		}
		if len(events) != 1 || events[0].Fence != c.want {
			t.Errorf("%v: %v, want an enter of fence %d; it is %v m away", c.at, events, c.want, set.At(int(c.want)).Outside(c.at))
		}
	}
}

// TestParseFencesErrors: every mistake is named by its feature and member, with what to do.
func TestParseFencesErrors(t *testing.T) {
	feature := func(properties, geometry string) string {
		return `{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": ` + properties + `, "geometry": ` + geometry + `}]}`
	}
	const point, triangle = `{"type": "Point", "coordinates": [5, 52]}`, `[[5, 52], [5.1, 52], [5.1, 52.1], [5, 52]]`
	for want, text := range map[string]string{
		"no GeoJSON: unexpected end of JSON input (line 2)":                                              "{\n\"type\":",
		"type \"Feature\": want a FeatureCollection":                                                     `{"type": "Feature"}`,
		"features: none: want a fence at least":                                                          `{"type": "FeatureCollection", "features": []}`,
		"no GeoJSON: json: cannot unmarshal":                                                             `{"type": "FeatureCollection", "features": {}}`,
		"want longitudes and latitudes of WGS 84: convert the file":                                      `{"type": "FeatureCollection", "crs": {"properties": {"name": "EPSG:28992"}}, "features": []}`,
		"features[0]: type: \"\": want Feature":                                                          `{"type": "FeatureCollection", "features": [{}]}`,
		"features[0]: properties.id: missing: give":                                                      feature(`{}`, point),
		"features[0]: properties.id: true: want text":                                                    feature(`{"id": true}`, point),
		"features[0]: properties.id: \"\": want text":                                                    feature(`{"id": ""}`, point),
		"features[0]: properties.name: a JSON number: want text":                                         feature(`{"id": "a", "name": 7}`, point),
		"features[0]: properties.radius_m: a JSON string: want a number":                                 feature(`{"id": "a", "radius_m": "7"}`, point),
		"features[0]: properties.radius_m: missing: a Point is the centre of a circle":                   feature(`{"id": "a"}`, point),
		"features[0]: properties.radius_m: -1: want metres above 0":                                      feature(`{"id": "a", "radius_m": -1}`, point),
		"features[0]: properties.radius_m: a Polygon has none":                                           feature(`{"id": "a", "radius_m": 5}`, `{"type": "Polygon", "coordinates": [`+triangle+`]}`),
		"features[0]: geometry: none: want a Polygon":                                                    feature(`{"id": "a"}`, `null`),
		"features[0]: geometry.type: \"LineString\": want Polygon, MultiPolygon":                         feature(`{"id": "a"}`, `{"type": "LineString", "coordinates": []}`),
		"features[0]: geometry.coordinates: not those of a Polygon":                                      feature(`{"id": "a"}`, `{"type": "Polygon", "coordinates": [5, 52]}`),
		"features[0]: geometry.coordinates: no ring: want the outer one":                                 feature(`{"id": "a"}`, `{"type": "Polygon", "coordinates": []}`),
		"features[0]: geometry.coordinates: empty: want a polygon at least":                              feature(`{"id": "a"}`, `{"type": "MultiPolygon", "coordinates": []}`),
		"features[0]: geometry.coordinates[1]: no ring":                                                  feature(`{"id": "a"}`, `{"type": "MultiPolygon", "coordinates": [[`+triangle+`], []]}`),
		"features[0]: geometry.coordinates[0]: 2 positions: want 4 at least":                             feature(`{"id": "a"}`, `{"type": "Polygon", "coordinates": [[[5, 52], [5, 52]]]}`),
		"features[0]: geometry.coordinates[0]: ends at another place than it begins: repeat":             feature(`{"id": "a"}`, `{"type": "Polygon", "coordinates": [[[5, 52], [5.1, 52], [5.1, 52.1], [5, 52.1]]]}`),
		"features[0]: geometry.coordinates[0][1]: [5]: want longitude and latitude":                      feature(`{"id": "a"}`, `{"type": "Polygon", "coordinates": [[[5, 52], [5], [5.1, 52.1], [5, 52]]]}`),
		"features[0]: geometry.coordinates: position 100, 52: want a latitude of -90 to 90 and a longit": feature(`{"id": "a", "radius_m": 5}`, `{"type": "Point", "coordinates": [52, 100]}`),
		"to 180; the longitude comes first":                                                              feature(`{"id": "a", "radius_m": 5}`, `{"type": "Point", "coordinates": [52, 100]}`),
		"features[0]: fence a: 6":                                                                        feature(`{"id": "a"}`, `{"type": "Polygon", "coordinates": [[[5, 52], [6, 52], [6, 52.1], [5, 52]]]}`),
		"features[1]: properties.id: \"a\" is that of features[0]: give every fence its own":             `{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"id": "a", "radius_m": 5}, "geometry": ` + point + `}, {"type": "Feature", "properties": {"id": "a", "radius_m": 5}, "geometry": ` + point + `}]}`,
	} {
		if fences, err := assets.ParseFences([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", fences, err, want)
		}
	}
}

// FuzzParseFences: no file makes it panic, and what it takes can be used.
func FuzzParseFences(f *testing.F) {
	f.Add([]byte(fencesText))
	f.Add([]byte(`{"type": "FeatureCollection", "features": [{"type": "Feature", "id": "a", "properties": null, "geometry": {"type": "Polygon", "coordinates": [[]]}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		fences, err := assets.ParseFences(text)
		if err != nil {
			return
		}
		set, err := assets.NewFences(fences, 50)
		if err != nil {
			t.Fatal(err)
		}
		for i := range set.Len() {
			if d := set.At(i).Outside(depot); math.IsNaN(d) {
				t.Fatalf("fence %d is NaN m away", i)
			}
		}
	})
}
