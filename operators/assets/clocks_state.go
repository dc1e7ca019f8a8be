package assets

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
)

// Columns of what a checkpoint has of the clocks: one row for each split and gateway. The skew and the
// ages are for people; Restore works them out from the state.
const (
	gcSplit = iota
	gcGateway
	gcOffset
	gcSeen
	gcRecords
	gcBuffered
	gcSkew
	gcSkewed
	gcCorrected
	gcMedian
	gcHigh
	gcBursts
	gcBurstRecords
	gcLargest
	gcState // the delays, and the run of records that may become a burst
)

// GatewaysSchema is the schema of Clocks.Snapshot. Times are in microseconds; records counts all of a
// gateway, buffered those that it kept back, ages are of the newest ones that it did not.
func GatewaysSchema() *arrow.Schema {
	i64 := arrow.PrimitiveTypes.Int64
	may := func(name string) arrow.Field { return arrow.Field{Name: name, Type: i64, Nullable: true} }
	return arrow.NewSchema([]arrow.Field{
		{Name: "_split", Type: arrow.PrimitiveTypes.Int32}, {Name: "gateway_id", Type: arrow.BinaryTypes.String},
		{Name: "_offset", Type: i64}, {Name: "last_ingest", Type: pipeline.Timestamp},
		{Name: "records", Type: i64}, {Name: "buffered", Type: i64},
		may("skew_us"), {Name: "skewed", Type: arrow.FixedWidthTypes.Boolean}, {Name: "corrected", Type: i64},
		may("age_p50_us"), may("age_p95_us"),
		{Name: "bursts", Type: i64}, {Name: "burst_records", Type: i64}, {Name: "largest_burst", Type: i64},
		{Name: "state", Type: arrow.BinaryTypes.Binary},
	}, nil)
}

// Snapshot implements pipeline.Clock. Gateways come by split and name.
func (c *Clocks) Snapshot() arrow.RecordBatch {
	b := array.NewRecordBuilder(c.mem, GatewaysSchema())
	defer b.Release()
	whole := func(column int, v int64) { b.Field(column).(*array.Int64Builder).Append(v) }
	delay := func(column int, g *gatewayClock, percent int) {
		if d, ok := g.skew.Delay(percent); ok {
			whole(column, d)
		} else {
			b.Field(column).AppendNull()
		}
	}
	for _, split := range slices.Sorted(maps.Keys(c.splits)) {
		known := c.splits[split]
		for _, name := range slices.Sorted(maps.Keys(known)) {
			g := known[name]
			b.Field(gcSplit).(*array.Int32Builder).Append(split)
			b.Field(gcGateway).(*array.StringBuilder).Append(name)
			whole(gcOffset, g.offset)
			b.Field(gcSeen).(*array.TimestampBuilder).Append(arrow.Timestamp(g.seen))
			whole(gcRecords, g.skew.All)
			whole(gcBuffered, g.skew.Buffered)
			delay(gcSkew, g, offsetPercent)
			b.Field(gcSkewed).(*array.BooleanBuilder).Append(g.skewed)
			whole(gcCorrected, g.corrected)
			delay(gcMedian, g, 50)
			delay(gcHigh, g, 95)
			whole(gcBursts, g.burst.Bursts)
			whole(gcBurstRecords, g.burst.Records)
			whole(gcLargest, g.burst.Largest)
			b.Field(gcState).(*array.BinaryBuilder).Append(g.append(nil))
		}
	}
	return b.NewRecordBatch()
}

// Restore implements pipeline.Clock. With fewer records than before an estimate rests on the newest.
func (c *Clocks) Restore(rec arrow.RecordBatch) error {
	if !rec.Schema().Equal(GatewaysSchema()) {
		return fmt.Errorf("clocks of gateways: columns %s, want %s; a newer release may have written them", strings.Join(columnNames(rec.Schema()), " "), strings.Join(columnNames(GatewaysSchema()), " "))
	}
	whole := func(column, i int) int64 { return rec.Column(column).(*array.Int64).Value(i) }
	for i := range int(rec.NumRows()) {
		split, name := rec.Column(gcSplit).(*array.Int32).Value(i), strings.Clone(rec.Column(gcGateway).(*array.String).Value(i))
		g := &gatewayClock{offset: whole(gcOffset, i), seen: int64(rec.Column(gcSeen).(*array.Timestamp).Value(i)),
			corrected: whole(gcCorrected, i)}
		c.flag(g, rec.Column(gcSkewed).(*array.Boolean).Value(i))
		g.skew.All, g.skew.Buffered = whole(gcRecords, i), whole(gcBuffered, i)
		g.burst.Bursts, g.burst.Records, g.burst.Largest = whole(gcBursts, i), whole(gcBurstRecords, i), whole(gcLargest, i)
		if err := g.read(rec.Column(gcState).(*array.Binary).Value(i), c.cfg.Skew.Records); err != nil {
			return fmt.Errorf("clock of gateway %q in split %d: %w", name, split, err)
		}
		if c.splits[split] == nil {
			c.splits[split] = map[string]*gatewayClock{}
		}
		c.splits[split][name] = g
		c.known++
	}
	for _, known := range c.splits { // there may be more than are allowed now
		c.forget(known, max(0, len(known)-c.cfg.Gateways))
	}
	return nil
}

// clockVersion is the first byte of the state of a clock.
const clockVersion = 1

// append writes what the other columns do not have.
func (g *gatewayClock) append(dst []byte) []byte {
	c := codec{writes: true, b: append(dst, clockVersion)}
	delays := append(slices.Clone(g.skew.delays[g.skew.next:]), g.skew.delays[:g.skew.next]...)
	c.clock(g, &delays)
	return c.b
}

// read reads what append has written, for an estimate that rests on so many records.
func (g *gatewayClock) read(b []byte, records int) error {
	switch {
	case len(b) == 0:
		return errCut
	case b[0] != clockVersion:
		return fmt.Errorf("version %d, want %d; a newer release may have written it", b[0], clockVersion)
	}
	c := codec{b: b[1:]}
	var delays []int64
	c.clock(g, &delays)
	if c.err == nil && len(c.b) > 0 {
		c.fail(fmt.Errorf("%d bytes too many", len(c.b)))
	}
	for _, d := range delays {
		g.skew.delay(records, d)
	}
	g.burst.measure()
	return c.err
}

// clock is the newest delays, the oldest of them first, and the run of records.
func (c *codec) clock(g *gatewayClock, delays *[]int64) {
	list(c, delays, c.int)
	list(c, &g.burst.waiting, func(r *arrival) {
		c.int(&r.at)
		c.int(&r.ingest)
	})
	c.int(&g.burst.first)
	c.int(&g.burst.size)
}
