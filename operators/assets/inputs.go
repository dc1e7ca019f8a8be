package assets

import (
	"errors"
	"fmt"
	"math"
	"unique"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
)

// Columns that detections are read from, all of them optional: numbers but for the first two.
// frame_type and load_kg are no fields of the feed: a reference table may add them.
const (
	inGateway = iota
	inQuality
	inSeq
	inFrame
	inRSSI
	inTxPower
	inBattery
	inTemp
	inX
	inY
	inZ
	inLat
	inLon
	inAccuracy
	inSpeed
	inLoad
	inBoots
	numInputs
)

func inputNames() [numInputs]string {
	return [...]string{colGateway, ColQuality, "seq", "frame_type", "rssi_dbm", "tx_power_dbm", "battery_mv", "temp_c", "accel_x_mg", "accel_y_mg", "accel_z_mg", "lat", "lon", "acc_m", "speed_mps", "load_kg", "boot_count"}
}

// inputs reads detections from rows.
type inputs struct {
	columns [numInputs]input
	rec     arrow.RecordBatch // of the arrays
	times   []int64
	ingests []int64
}

// input is a column; its array is that of the current batch.
type input struct {
	index int // -1: there is none
	scale float64
	null  arrow.Array
	text  *array.String
	ints  *array.Int64
	reals *array.Float64
}

func newInputs(rows *arrow.Schema) (inputs, error) {
	var in inputs
	var errs []error
	for i, name := range inputNames() {
		in.columns[i].index = -1
		at := rows.FieldIndices(name)
		if len(at) == 0 {
			continue
		}
		f := rows.Field(at[0])
		scale, err := pipeline.ScaleOf(f)
		switch typ := f.Type.ID(); {
		case err != nil:
		case i <= inQuality && typ != arrow.STRING:
			err = fmt.Errorf("is a %s, want text", f.Type)
		case i > inQuality && typ != arrow.INT64 && typ != arrow.FLOAT64:
			err = fmt.Errorf("is a %s, want a number", f.Type)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("column %s: %w", name, err))
		}
		in.columns[i] = input{index: at[0], scale: math.Pow10(scale)}
	}
	return in, errors.Join(errs...)
}

func (in *inputs) use(rec arrow.RecordBatch) {
	if in.rec == rec {
		return
	}
	in.rec = rec
	in.times = pipeline.TicksOf(rec.Column(pipeline.ColTime).(*array.Timestamp))
	in.ingests = pipeline.TicksOf(rec.Column(pipeline.ColIngest).(*array.Timestamp))
	for i := range in.columns {
		c := &in.columns[i]
		if c.index < 0 {
			continue
		}
		c.null = rec.Column(c.index)
		switch a := c.null.(type) {
		case *array.String:
			c.text = a
		case *array.Int64:
			c.ints = a
		case *array.Float64:
			c.reals = a
		}
	}
}

// number is a value of a column in its unit; false for null.
func (c *input) number(r int) (float64, bool) {
	if c.index < 0 || c.null.IsNull(r) {
		return 0, false
	}
	if c.ints != nil {
		return float64(c.ints.Value(r)) / c.scale, true
	}
	return c.reals.Value(r), true
}

// shared returns a text that many states hold, which is there once.
func shared(text string) string { return unique.Make(text).Value() }

// detection reads a row.
func (in *inputs) detection(rec arrow.RecordBatch, r int) Detection {
	in.use(rec)
	get := func(i int) (float64, bool) { return in.columns[i].number(r) }
	d := Detection{HasTime: true, Ingest: in.ingests[r]}
	d.At = in.times[r]
	if c := &in.columns[inGateway]; c.index >= 0 && !c.null.IsNull(r) {
		d.Gateway = shared(c.text.Value(r))
	}
	if c := &in.columns[inQuality]; c.index >= 0 && !c.null.IsNull(r) {
		d.Quality = qualityOf(c.text.Value(r))
	}
	d.RSSI, d.HasRSSI = get(inRSSI)
	frame, _ := get(inFrame)
	d.Frame = uint8(int64(frame))
	if seq, ok := get(inSeq); ok {
		d.Seq, d.HasSeq = uint8(int64(seq)), true
	} else {
		d.Payload = in.payload(r)
	}
	d.Battery, d.HasBatt = get(inBattery)
	d.Temp, d.HasTemp = get(inTemp)
	d.Load, d.HasLoad = get(inLoad)
	d.Speed, d.HasSpeed = get(inSpeed)
	var x, y, z bool
	d.Accel.X, x = get(inX)
	d.Accel.Y, y = get(inY)
	d.Accel.Z, z = get(inZ)
	d.HasAccel = x && y && z
	var lat, lon bool
	d.Fix.Lat, lat = get(inLat)
	d.Fix.Lon, lon = get(inLon)
	d.Fix.Accuracy, _ = get(inAccuracy)
	d.HasFix = lat && lon
	return d
}

// payload is a hash of what the tag says, the same whoever heard it. It only tells advertisements
// without a counter apart that are within half a second.
func (in *inputs) payload(r int) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	h := uint64(offset)
	for _, i := range [...]int{inTxPower, inBattery, inTemp, inX, inY, inZ, inLat, inLon, inAccuracy, inSpeed, inLoad, inBoots} {
		v, ok := in.columns[i].number(r)
		bits := math.Float64bits(v)
		if !ok {
			bits = math.MaxUint64 // of no number
		}
		for range 8 {
			h = (h ^ bits&0xff) * prime
			bits >>= 8
		}
	}
	return h
}
