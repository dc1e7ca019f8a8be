package assets

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Gateway is a receiver: one of a site has a place, one of a vehicle has none.
type Gateway struct {
	ID, Site string
	Position
	Placed  bool
	Vehicle bool
}

// Gateways are the receivers that are known.
type Gateways struct{ byID map[string]Gateway }

// Get returns a gateway; one that is not known has no site and no place.
func (g *Gateways) Get(id string) Gateway {
	if g == nil {
		return Gateway{ID: id}
	}
	if found, ok := g.byID[id]; ok {
		return found
	}
	return Gateway{ID: id}
}

// Len is the number of gateways.
func (g *Gateways) Len() int {
	if g == nil {
		return 0
	}
	return len(g.byID)
}

// ParseGateways reads CSV with a header: gateway_id, and if known site, lat and lon, vehicle (true
// or false). Other columns are not looked at. The error has every problem with its line.
func ParseGateways(text []byte) (*Gateways, error) {
	g := &Gateways{byID: map[string]Gateway{}}
	err := eachLine(text, []string{"gateway_id"}, func(get func(string) string) error {
		gw := Gateway{ID: get("gateway_id"), Site: get("site")}
		if gw.ID == "" {
			return errors.New("gateway_id: empty: want the id that detections carry")
		}
		if _, twice := g.byID[gw.ID]; twice {
			return fmt.Errorf("gateway_id: %q is there twice: leave one line", gw.ID)
		}
		if text := get("vehicle"); text != "" {
			var err error
			if gw.Vehicle, err = strconv.ParseBool(text); err != nil {
				return fmt.Errorf("vehicle: %q: want true or false", text)
			}
		}
		lat, lon := get("lat"), get("lon")
		if gw.Placed = lat != "" || lon != ""; gw.Placed {
			var errLat, errLon error
			gw.Lat, errLat = strconv.ParseFloat(lat, 64)
			gw.Lon, errLon = strconv.ParseFloat(lon, 64)
			if errLat != nil || errLon != nil {
				return fmt.Errorf("lat and lon: %q and %q: want two numbers, or neither", lat, lon)
			}
			if err := gw.validate(); err != nil {
				return err
			}
			if gw.Vehicle {
				return errors.New("vehicle: true, and a place: a vehicle has none: leave lat and lon empty")
			}
		}
		g.byID[gw.ID] = gw
		return nil
	})
	return g, err
}

// Registry are the assets that are known; nil knows all of them.
type Registry struct{ ids map[string]struct{} }

// Has tells whether an asset is known.
func (r *Registry) Has(id string) bool {
	if r == nil {
		return true
	}
	_, ok := r.ids[id]
	return ok
}

// Len is the number of assets.
func (r *Registry) Len() int {
	if r == nil {
		return 0
	}
	return len(r.ids)
}

// ParseRegistry reads CSV with a header and a column asset_id.
func ParseRegistry(text []byte) (*Registry, error) {
	r := &Registry{ids: map[string]struct{}{}}
	err := eachLine(text, []string{"asset_id"}, func(get func(string) string) error {
		id := get("asset_id")
		if id == "" {
			return errors.New("asset_id: empty: want an id, or leave the line out")
		}
		r.ids[id] = struct{}{}
		return nil
	})
	return r, err
}

// eachLine calls f for the lines of a CSV file; get returns a column's text, empty where there is
// no such column.
func eachLine(text []byte, required []string, f func(get func(string) string) error) error {
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(text), "\ufeff")))
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("is empty: want a header with %s", strings.Join(required, ", "))
	}
	if err != nil {
		return err
	}
	for _, name := range required {
		if !slices.Contains(header, name) {
			return fmt.Errorf("line 1: no column %s: the header has %s", name, strings.Join(header, ", "))
		}
	}
	var errs []error
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return errors.Join(errs...)
		}
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		err = f(func(name string) string {
			if i := slices.Index(header, name); i >= 0 {
				return row[i]
			}
			return ""
		})
		if err != nil {
			line, _ := r.FieldPos(0)
			errs = append(errs, fmt.Errorf("line %d: %w", line, err))
		}
	}
}
