package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/tidemark/tidemark/operators/power"
)

// powerInventory is an inventory file: what a site knows of its PDUs.
type powerInventory struct {
	PDUs     []inventoryPDU     `yaml:"pdus"`
	Devices  []inventoryDevice  `yaml:"devices"`
	Silences []inventorySilence `yaml:"silences"`
}

type inventoryPDU struct {
	ID      string       `yaml:"id"`
	Name    string       `yaml:"name"`
	Country string       `yaml:"country"`
	Feed    string       `yaml:"feed"`
	Group   string       `yaml:"group"`
	Wiring  power.Wiring `yaml:"wiring"`
	// Volts are between lines with delta wiring, else to neutral.
	Volts    float64 `yaml:"volts"`
	LineA    float64 `yaml:"line_a"`    // rating of a line
	BreakerA float64 `yaml:"breaker_a"` // of every branch
	// Continuous is the share of a breaker that may be drawn for hours; without it the country's.
	Continuous    *float64 `yaml:"continuous"`
	MaxW          float64  `yaml:"max_w"`
	WrapKWh       float64  `yaml:"wrap_kwh"`
	ResolutionKWh *float64 `yaml:"resolution_kwh"`
}

func (p *inventoryPDU) pdu() power.PDU {
	out := power.DefaultPDU(p.ID)
	out.Name, out.Country, out.Feed, out.Group, out.Wiring, out.Volts = p.Name, p.Country, p.Feed, p.Group, p.Wiring, p.Volts
	out.Limits = power.Limits{LineA: p.LineA, BreakerA: p.BreakerA, Continuous: power.ContinuousIn(p.Country)}
	if p.Continuous != nil {
		out.Limits.Continuous = *p.Continuous
	}
	out.Energy.MaxW, out.Energy.WrapKWh = p.MaxW, p.WrapKWh
	if p.ResolutionKWh != nil {
		out.Energy.ResolutionKWh = *p.ResolutionKWh
	}
	return out
}

type inventoryDevice struct {
	Name  string  `yaml:"name"`
	Group string  `yaml:"group"`
	Watts float64 `yaml:"watts"`
	// A and B are the branches of its cords; outlets measure what it draws.
	A       string   `yaml:"a"`
	B       string   `yaml:"b"`
	OutletA string   `yaml:"a_outlet"`
	OutletB string   `yaml:"b_outlet"`
	Share   *float64 `yaml:"share"` // on feed A
}

func (d *inventoryDevice) equipment() power.Equipment {
	out := power.Equipment{Device: power.Device{Name: d.Name, W: d.Watts, A: d.A, B: d.B, ShareA: 0.5}, Group: d.Group, OutletA: d.OutletA, OutletB: d.OutletB}
	if d.Share != nil {
		out.ShareA = *d.Share
	}
	return out
}

type inventorySilence struct {
	PDU    string    `yaml:"pdu"`
	From   time.Time `yaml:"from"`
	To     time.Time `yaml:"to"`
	Reason string    `yaml:"reason"`
}

// maxInventoryEntries bounds each list of an inventory.
const maxInventoryEntries = 200_000

// parseInventory reads an inventory, YAML or CSV by the name of the file, strictly: every mistake
// is named with its place. Other is what is taken for PDUs that are not in it.
func parseInventory(file string, b []byte, other power.PDU) (*power.Inventory, error) {
	read := parseYAML
	switch filepath.Ext(file) {
	case ".yaml", ".yml":
	case ".csv":
		read = inventoryCSV
	default:
		return nil, fmt.Errorf("%s: want the name of a .yaml or .csv file", file)
	}
	d, err := read(file, b)
	if err != nil {
		return nil, err
	}
	var in powerInventory
	d.decode(&in)
	if err := d.err(); err != nil {
		return nil, err
	}
	for list, n := range map[string]int{"pdus": len(in.PDUs), "devices": len(in.Devices), "silences": len(in.Silences)} {
		if n > maxInventoryEntries {
			return nil, fmt.Errorf("%s: %d %s: at most %d are taken", file, n, list, maxInventoryEntries)
		}
	}
	sum := sha256.Sum256(b)
	inv, mistakes := power.NewInventory(in.entries(other), hex.EncodeToString(sum[:8]))
	for _, m := range mistakes {
		path := []string{m.List, strconv.Itoa(m.Index), m.Field}
		d.add(d.node(path...), strings.Join(path, "."), "%s", m.Text)
	}
	return inv, d.err()
}

func (in *powerInventory) entries(other power.PDU) power.Entries {
	e := power.Entries{Other: other}
	for i := range in.PDUs {
		e.PDUs = append(e.PDUs, in.PDUs[i].pdu())
	}
	for i := range in.Devices {
		e.Devices = append(e.Devices, in.Devices[i].equipment())
	}
	for _, s := range in.Silences {
		e.Silences = append(e.Silences, power.Silence{PDU: s.PDU, From: s.From.UnixMicro(), To: s.To.UnixMicro(), Reason: s.Reason})
	}
	return e
}

// inventoryKinds are the values of column kind of an inventory in CSV, and the lists that they
// are entries of.
var inventoryKinds = map[string]string{"pdu": "pdus", "device": "devices", "silence": "silences"}

// inventoryCSV reads an inventory whose rows have a column kind: pdu, device or silence. The other
// columns are the settings of the entries; an empty cell is a setting that is not given. What comes
// back is the tree that the same inventory in YAML has, with the places of the CSV.
func inventoryCSV(file string, b []byte) (*document, error) {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%s: is not UTF-8", file)
	}
	r := csv.NewReader(bytes.NewReader(b))
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s:1: is empty: want a header with kind and the settings, such as kind,id,feed,group,volts", file)
	}
	if err != nil {
		return nil, fmt.Errorf("%s:1: %w", file, csvError(err))
	}
	kind := slices.Index(header, "kind")
	if name := twice(header); name != "" || kind < 0 {
		return nil, fmt.Errorf("%s:1: want a header with column kind and no column twice; it is %q", file, header)
	}
	d := &document{path: file, root: &yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1}}
	lists := map[string]*yaml.Node{}
	for {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			return d, nil
		}
		if err != nil {
			line, _ := r.FieldPos(0)
			if parse := (*csv.ParseError)(nil); errors.As(err, &parse) {
				line = parse.Line
			}
			return nil, fmt.Errorf("%s:%d: %w: want as many cells as the header has", file, line, csvError(err))
		}
		line, col := r.FieldPos(kind)
		name, ok := inventoryKinds[rec[kind]]
		if !ok {
			d.problems = append(d.problems, problem{line, col, "", fmt.Sprintf("kind: %q: want pdu, device or silence", short(rec[kind]))})
			continue
		}
		list := lists[name]
		if list == nil {
			list = &yaml.Node{Kind: yaml.SequenceNode, Line: line, Column: col}
			lists[name] = list
			d.root.Content = append(d.root.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name, Line: line, Column: col}, list)
		}
		list.Content = append(list.Content, inventoryRow(r, header, rec, kind))
	}
}

// inventoryRow makes an entry of a row.
func inventoryRow(r *csv.Reader, header, rec []string, kind int) *yaml.Node {
	line, col := r.FieldPos(kind)
	entry := &yaml.Node{Kind: yaml.MappingNode, Line: line, Column: col}
	for i, name := range header {
		if i == kind || rec[i] == "" {
			continue
		}
		line, col := r.FieldPos(i)
		// Without a tag the reader of YAML finds out what a plain value is.
		entry.Content = append(entry.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name, Line: line, Column: col},
			&yaml.Node{Kind: yaml.ScalarNode, Value: rec[i], Line: line, Column: col})
	}
	return entry
}
