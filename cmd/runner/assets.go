package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemark/tidemark/operators/assets"
	"github.com/tidemark/tidemark/schemas/ble"
	"github.com/tidemark/tidemark/schemas/ocsf"
)

// cmdAssets is the group of commands about assets.
func cmdAssets(ctx context.Context, args []string, out streams) error {
	if len(args) > 0 {
		switch args[0] {
		case "geofence":
			return cmdAssetsGeofence(ctx, args[1:], out)
		case "-h", "-help", "--help":
			return cmdAssetsGeofence(ctx, args[:1], out)
		}
	}
	return &usageError{"assets: want geofence; `tidemark assets --help` shows its flags"}
}

// cmdAssetsGeofence tells when the assets of a file enter and leave fences.
func cmdAssetsGeofence(ctx context.Context, args []string, out streams) error {
	f := newFlags("assets geofence", "tidemark assets geofence --fences sites.geojson --format table fixes.csv",
		"reads positions of assets from FILE, or standard input for -, and prints when they entered and left fences. FILE is CSV with a header, or JSON objects, with asset_id, time (RFC 3339, or a number of milliseconds since 1970), lat, lon and, if known, acc_m. It may be in any order")
	fencesFile := f.String("fences", "", "GeoJSON `file`: Polygon, MultiPolygon, or Point with property radius_m; properties id, name, kind")
	format := f.String("format", "json", "`form` of the output: json, one object a line, or table")
	until := f.String("until", "", "`time` (RFC 3339) that is reached after the last position: tells more stays and silences (default the newest time of the file)")
	file, err := f.parseFile(args)
	if err != nil {
		return err
	}
	switch {
	case *fencesFile == "":
		return &usageError{"assets geofence: want --fences FILE"}
	case *format != "json" && *format != "table":
		return &usageError{fmt.Sprintf("assets geofence: --format %q: want json or table", *format)}
	}
	end := int64(math.MinInt64)
	if *until != "" {
		t, err := time.Parse(time.RFC3339Nano, *until)
		if err != nil {
			return &usageError{fmt.Sprintf("assets geofence: --until %q: want a time such as 2026-03-01T12:00:00Z", *until)}
		}
		end = t.UnixMicro()
	}
	g := geofenceFile{cfg: assets.DefaultGeofenceConfig(), states: map[string]*assets.Tracker{}}
	if g.fences, err = readFences(*fencesFile, g.cfg.OutMargin); err != nil {
		return err
	}
	in, err := openInput(file)
	if err != nil {
		return err
	}
	defer in.Close()
	fixes, err := readFixes(bufio.NewReaderSize(in, 64<<10))
	if err != nil {
		return fmt.Errorf("assets geofence: %s: %w", file, err)
	}
	if err := g.run(ctx, fixes, end); err != nil {
		return err
	}
	w := bufio.NewWriter(out.stdout)
	if *format == "table" {
		err = g.printTable(w)
	} else {
		err = g.printJSON(w)
	}
	g.printSummary(out.stderr, len(fixes))
	return errors.Join(err, w.Flush())
}

// readFences reads a GeoJSON file.
func readFences(name string, margin float64) (*assets.Fences, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("fences: %w", err)
	}
	all, err := assets.ParseFences(text)
	if err != nil {
		return nil, fmt.Errorf("fences: %s: %w", name, err)
	}
	return assets.NewFences(all, margin)
}

// assetFix is a position in a file.
type assetFix struct {
	asset string
	assets.Fix
}

// readFixes reads JSON when that is how the input begins, else CSV.
func readFixes(in *bufio.Reader) ([]assetFix, error) {
	first, err := in.Peek(len("\ufeff"))
	if err == nil && string(first) == "\ufeff" {
		if _, err := in.Discard(len(first)); err != nil {
			return nil, err
		}
	}
	for {
		switch c, err := in.ReadByte(); {
		case errors.Is(err, io.EOF):
			return nil, errors.New("is empty: want positions")
		case err != nil:
			return nil, err
		case strings.IndexByte(" \t\r\n", c) >= 0:
			continue
		case c == '{' || c == '[':
			return readFixesJSON(in)
		}
		return readFixesCSV(in)
	}
}

func readFixesJSON(in *bufio.Reader) ([]assetFix, error) {
	if err := in.UnreadByte(); err != nil {
		return nil, err
	}
	events := newEventReader(in)
	var fixes []assetFix
	for {
		text, line, err := events.next()
		if errors.Is(err, io.EOF) {
			return fixes, nil
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		var row struct {
			Asset    *string         `json:"asset_id"`
			Time     json.RawMessage `json:"time"`
			Lat      *float64        `json:"lat"`
			Lon      *float64        `json:"lon"`
			Accuracy float64         `json:"acc_m"`
		}
		if err := json.Unmarshal(text, &row); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		at := string(row.Time)
		if strings.HasPrefix(at, `"`) {
			if err := json.Unmarshal(row.Time, &at); err != nil {
				return nil, fmt.Errorf("line %d: time: %w", line, err)
			}
		}
		switch {
		case row.Asset == nil:
			err = errors.New("asset_id: missing")
		case row.Lat == nil || row.Lon == nil:
			err = errors.New("lat and lon: want both, in degrees")
		default:
			var fix assets.Fix
			if fix, err = newFix(at, *row.Lat, *row.Lon, row.Accuracy); err == nil {
				fixes = append(fixes, assetFix{*row.Asset, fix})
			}
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
}

func readFixesCSV(in *bufio.Reader) ([]assetFix, error) {
	if err := in.UnreadByte(); err != nil {
		return nil, err
	}
	r := csv.NewReader(in)
	header, err := r.Read()
	if err != nil {
		return nil, err
	}
	r.ReuseRecord = true
	var missing []string
	column := func(name string, required bool) int {
		i := slices.Index(header, name)
		if i < 0 && required {
			missing = append(missing, name)
		}
		return i
	}
	asset, at, lat, lon, acc := column("asset_id", true), column("time", true), column("lat", true), column("lon", true), column("acc_m", false)
	if len(missing) > 0 {
		return nil, fmt.Errorf("line 1: no column %s: want asset_id, time, lat, lon and, if known, acc_m", strings.Join(missing, ", "))
	}
	var fixes []assetFix
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return fixes, nil
		}
		if err != nil {
			return nil, err
		}
		number := func(i int) (v float64) {
			if err == nil && i >= 0 && (i != acc || row[i] != "") {
				if v, err = strconv.ParseFloat(row[i], 64); err != nil {
					err = fmt.Errorf("%s: %q: want a number", header[i], row[i])
				}
			}
			return v
		}
		y, x, radius := number(lat), number(lon), number(acc)
		var fix assets.Fix
		if err == nil {
			fix, err = newFix(row[at], y, x, radius)
		}
		if err != nil {
			line, _ := r.FieldPos(0)
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		fixes = append(fixes, assetFix{strings.Clone(row[asset]), fix})
	}
}

// newFix checks a position. The largest time still has room for the silences behind it.
func newFix(at string, lat, lon, accuracy float64) (assets.Fix, error) {
	fix := assets.Fix{Position: assets.Position{Lat: lat, Lon: lon}, Accuracy: accuracy}
	if ms, err := strconv.ParseInt(at, 10, 64); err == nil {
		if ms < -1<<50 || ms > 1<<50 {
			return fix, fmt.Errorf("time: %d: want milliseconds since 1970", ms)
		}
		fix.At = ms * 1000
	} else {
		t, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			return fix, fmt.Errorf("time: %q: want a time such as 2026-03-01T12:00:00Z, or a whole number of milliseconds since 1970", at)
		}
		fix.At = t.UnixMicro()
	}
	switch {
	case !(math.Abs(lat) <= 90):
		return fix, fmt.Errorf("lat: %v: want degrees from -90 to 90", lat)
	case !(math.Abs(lon) <= 180):
		return fix, fmt.Errorf("lon: %v: want degrees from -180 to 180", lon)
	case !(accuracy >= 0):
		return fix, fmt.Errorf("acc_m: %v: want metres, 0 or more", accuracy)
	}
	return fix, nil
}

// geofenceFile takes the positions of a file through the operator of the jobs.
type geofenceFile struct {
	cfg    assets.GeofenceConfig
	fences *assets.Fences
	states map[string]*assets.Tracker

	disordered, late, inaccurate int
	events                       []assetEvent
}

type assetEvent struct {
	asset string
	assets.GeofenceEvent
}

func (g *geofenceFile) run(ctx context.Context, fixes []assetFix, end int64) error {
	for i := range fixes {
		if i > 0 && fixes[i].At < fixes[i-1].At {
			g.disordered++
		}
		end = max(end, fixes[i].At)
	}
	slices.SortStableFunc(fixes, func(a, b assetFix) int { return cmp.Compare(a.At, b.At) })
	var scratch []assets.GeofenceEvent
	for i, f := range fixes {
		if i%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		t := g.states[f.asset]
		if t == nil {
			t = &assets.Tracker{}
			g.states[f.asset] = t
		}
		if f.Accuracy > g.cfg.MaxAccuracy {
			g.inaccurate++
		}
		scratch = t.Fix(&g.cfg, g.fences, f.Fix, scratch[:0])
		g.take(f.asset, scratch)
	}
	for asset, t := range g.states {
		scratch = t.Advance(&g.cfg, end, scratch[:0])
		g.take(asset, scratch)
	}
	slices.SortStableFunc(g.events, func(a, b assetEvent) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.asset, b.asset))
	})
	return nil
}

func (g *geofenceFile) take(asset string, events []assets.GeofenceEvent) {
	for _, e := range events {
		if e.Kind == assets.LateDropped {
			g.late++
			continue
		}
		g.events = append(g.events, assetEvent{asset, e})
	}
}

// geofenceLine is an event as it is printed.
type geofenceLine struct {
	ID        string     `json:"id"`
	Type      string     `json:"type"`
	Asset     string     `json:"asset_id"`
	Fence     string     `json:"fence"`
	Name      string     `json:"fence_name,omitempty"`
	Kind      string     `json:"fence_kind,omitempty"`
	Time      time.Time  `json:"time"`
	Confirmed *time.Time `json:"confirmed,omitempty"`   // enter, exit
	Duration  *float64   `json:"duration_s,omitempty"`  // exit
	Threshold *float64   `json:"threshold_s,omitempty"` // dwell
	LastSeen  *time.Time `json:"last_seen,omitempty"`   // lost
}

func (g *geofenceFile) line(e assetEvent) geofenceLine {
	at := func(us int64) *time.Time { t := time.UnixMicro(us).UTC(); return &t }
	f := g.fences.At(int(e.Fence))
	l := geofenceLine{ID: ocsf.StateUID(ble.Geofence, e.At, e.asset, f.ID, string(e.Kind)), Type: string(e.Kind), Asset: e.asset,
		Fence: f.ID, Name: f.Name, Kind: f.Kind, Time: *at(e.At)}
	seconds := float64(e.Duration) / 1e6
	switch e.Kind {
	case assets.Enter:
		l.Confirmed = at(e.Confirmed)
	case assets.Exit:
		l.Confirmed, l.Duration = at(e.Confirmed), &seconds
	case assets.Dwell:
		l.Threshold = &seconds
	case assets.Lost:
		l.LastSeen = at(e.LastSeen)
	}
	return l
}

func (g *geofenceFile) printJSON(w io.Writer) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, e := range g.events {
		b.Reset()
		if err := enc.Encode(g.line(e)); err != nil {
			return err
		}
		if _, err := w.Write(b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (g *geofenceFile) printTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TIME\tASSET\tEVENT\tFENCE\tDETAIL")
	for _, e := range g.events {
		l, detail := g.line(e), ""
		switch {
		case l.Duration != nil:
			detail = "stayed " + time.Duration(e.Duration*1000).String()
		case l.Threshold != nil:
			detail = "for " + time.Duration(e.Duration*1000).String()
		case l.LastSeen != nil:
			detail = "last seen " + l.LastSeen.Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", l.Time.Format(time.RFC3339), l.Asset, l.Type, l.Fence, detail)
	}
	return t.Flush()
}

func (g *geofenceFile) printSummary(w io.Writer, fixes int) {
	fmt.Fprintf(w, "%d positions of %d assets, %d fences, %d events; %d not in order of time, %d late (not newer than the one before), %d less accurate than %v m\n",
		fixes, len(g.states), g.fences.Len(), len(g.events), g.disordered, g.late, g.inaccurate, g.cfg.MaxAccuracy)
}
