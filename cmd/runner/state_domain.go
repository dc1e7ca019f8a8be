package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/operators/assets"
	"github.com/tidemark/tidemark/operators/power"
	"github.com/tidemark/tidemark/operators/traffic"
	"github.com/tidemark/tidemark/pipeline"
)

// domainStates reads the states of the keys of a job's domain. The zero value knows no domain.
type domainStates struct {
	section string
	key     []string // its columns
	first   int      // operator of traffic: as if counters were there always
	assets  assets.Follower
	fences  []string // their ids, when a job file names them
	series  traffic.DetectorConfig
}

// domainStates returns what reads the states of a checkpoint's domain; nil when its job has none.
// Without a job file the configuration of the checkpoint says which domain it is.
func (v *stateView) domainStates(config map[string]string) (*domainStates, error) {
	d := &domainStates{series: traffic.DefaultDetectorConfig()}
	for path := range config {
		switch head, _, _ := strings.Cut(path, "."); head {
		case "assets", "power", "traffic":
			d.section = head
		}
	}
	switch d.section {
	case "":
		return nil, nil
	case "assets":
		d.key = []string{"asset_id"}
	case "power":
		d.key = []string{"pdu_id"}
	case "traffic":
		d.key = []string{config["traffic.entity"]}
		if s := config["traffic.signal"]; s != "" {
			d.key = append(d.key, s)
		}
		d.first = firstOfDomain(config)
		if config["traffic.input"] != inputCounters {
			d.first--
		}
	}
	var err error
	if d.assets.World.Fences, err = assets.NewFences(nil, 0); err != nil || v.job == nil {
		return d, err
	}
	if v.job.Traffic != nil {
		d.key, d.series = v.job.Traffic.rowKey(), v.job.Traffic.seriesConfig().Detector
	}
	if v.job.Assets == nil || v.job.Assets.Fences == "" {
		return d, nil
	}
	return d, d.readFences(v.job.Assets.Fences)
}

// firstOfDomain is how many operators are before those of the domain (plan.chain).
func firstOfDomain(config map[string]string) int {
	n := 0
	var tables []any
	if json.Unmarshal([]byte(config["reference"]), &tables) == nil {
		n += len(tables)
	}
	if config["filter"] != "" {
		n++
	}
	if _, there := config["dedupe.columns"]; there {
		n++
	}
	return n
}

// The operators of traffic, from the first.
const (
	ofCounters = iota
	ofSeries
	ofRegister
)

// readFences reads the fences, by whose ids an asset's state names them.
func (d *domainStates) readFences(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("fences: %w", err)
	}
	fences, err := assets.ParseFences(b)
	if err == nil {
		d.assets.World.Fences, err = assets.NewFences(fences, assets.DefaultConfig().Geofence.OutMargin)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, f := range fences {
		d.fences = append(d.fences, f.ID)
	}
	return nil
}

// of tells whether the state of a name has what belongs to a key: its own, that of PDUs which are
// judged together, that of a series or a counter of an entity, or the register of all entities.
func (d *domainStates) of(op int, key, name string, state []byte) bool {
	text := strings.ReplaceAll(name, operators.KeySeparator, ",")
	if text == key || d == nil {
		return text == key
	}
	switch d.section {
	case "power":
		var g power.Group
		return power.ReadGroup(state, &g) == nil && slices.ContainsFunc(g.Members, func(m power.Member) bool { return m.ID == key })
	case "traffic":
		if op-d.first == ofRegister {
			records, err := d.records(key, state)
			return err == nil && len(records) > 0
		}
		return strings.HasPrefix(text, key+",")
	}
	return false
}

// sample is what somebody may ask for who wants the state of a name.
func (d *domainStates) sample(name string, state []byte) []string {
	var g power.Group
	if d != nil && d.section == "power" && power.ReadGroup(state, &g) == nil && len(g.Members) > 0 {
		return []string{g.Members[0].ID}
	}
	return strings.Split(name, operators.KeySeparator)
}

// records returns the anomalies that a register has of an entity.
func (d *domainStates) records(key string, state []byte) ([]traffic.Record, error) {
	var g traffic.Register
	if err := traffic.ReadRegister(state, &g); err != nil {
		return nil, err
	}
	entity, _, _ := strings.Cut(key, ",")
	return slices.DeleteFunc(g.Records(), func(r traffic.Record) bool { return r.Entity != entity }), nil
}

// decode returns a state as facts; nil when nothing knows what it is. What a state that is not
// whole makes the domain panic with is an error.
func (d *domainStates) decode(op int, key string, state []byte) (value any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the state cannot be read: %v", r)
		}
	}()
	if d == nil {
		return nil, nil
	}
	switch d.section {
	case "assets":
		var s assets.Asset
		err := d.assets.Read(state, &s)
		return d.plain(reflect.ValueOf(s)), err
	case "power":
		var g power.Group
		err := power.ReadGroup(state, &g)
		return d.plain(reflect.ValueOf(g)), err
	}
	switch op - d.first {
	case ofRegister:
		records, err := d.records(key, state)
		return d.plain(reflect.ValueOf(records)), err
	case ofSeries:
		var s traffic.SeriesState
		err := traffic.ReadSeries(d.series, state, &s)
		return d.plain(reflect.ValueOf(s)), err
	case ofCounters:
		var s traffic.CounterState
		err := traffic.ReadCounter(state, &s)
		return d.plain(reflect.ValueOf(s)), err
	}
	return nil, errors.New("no operator of the domain is at this place")
}

// maxShown is how many elements of a list are shown.
const maxShown = 16

// plain makes facts, lists and scalars of a state. What is zero is left out. Whole numbers that
// are a time of the years from 2001 to 2100 are shown as one: the states have them in ticks.
func (d *domainStates) plain(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() || v.Type() == reflect.TypeFor[*assets.Fences]() {
			return nil
		}
		return d.plain(v.Elem())
	case reflect.Struct:
		return d.fields(v)
	case reflect.Slice, reflect.Array:
		list := []any{}
		for i := range min(v.Len(), maxShown) {
			list = append(list, d.plain(v.Index(i)))
		}
		if v.Len() > maxShown {
			list = append(list, fmt.Sprintf("and %d more", v.Len()-maxShown))
		}
		return list
	case reflect.Map:
		return fmt.Sprintf("%d entries", v.Len())
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Sprint(f)
		}
		return v.Float()
	case reflect.String:
		return strings.ToValidUTF8(v.String(), "?")
	case reflect.Bool:
		return v.Bool()
	}
	return scalar(v)
}

func (d *domainStates) fields(v reflect.Value) any {
	out := facts{}
	for i := range v.NumField() {
		name, f := v.Type().Field(i).Name, v.Field(i)
		if f.IsZero() && name != "fence" {
			continue
		}
		switch value := d.plain(f); {
		case name == "visits" && d.section == "assets" && d.fences == nil:
			out.add(name, "of fences, which a job file names: ask with -f")
		case name == "fence" && f.Kind() == reflect.Int32 && f.Int() >= 0 && int(f.Int()) < len(d.fences):
			out.add(name, d.fences[f.Int()])
		case value != nil:
			out.add(name, value)
		}
	}
	if len(out) == 1 && v.NumField() == 1 {
		return out[0].value // a handle of a text
	}
	return out
}

// scalar is a whole number, as a time or in words where it is one.
func scalar(v reflect.Value) any {
	named := reflect.New(v.Type()).Elem() // v may be a field that only its package may use
	switch {
	case v.CanInt():
		named.SetInt(v.Int())
	case v.CanUint():
		named.SetUint(v.Uint())
	default:
		return v.Type().String()
	}
	if s, ok := named.Interface().(fmt.Stringer); ok {
		return s.String()
	}
	const from, to = 978_307_200_000_000, 4_102_444_800_000_000
	switch {
	case v.Kind() == reflect.Int64 && (v.Int() >= from && v.Int() < to || v.Int() == pipeline.MinTicks || v.Int() == pipeline.MaxTicks):
		return tick(v.Int())
	case v.CanInt():
		return v.Int()
	}
	return v.Uint()
}
