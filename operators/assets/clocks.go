package assets

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
)

// ClocksConfig says what is made of the clocks of gateways.
type ClocksConfig struct {
	Skew    SkewConfig
	Burst   BurstConfig
	Correct bool // the times of clocks that run ahead
	// Gateways is of how many a split the clock is known. Beyond it the quarter of them that was
	// not heard for longest begins anew.
	Gateways int
	// What is still more than MaxAhead beyond the broker's timestamp then; the decoder must let
	// it pass. Time names the field, RawLimit is how much of a payload a Dead row keeps.
	Future   operators.FuturePolicy
	MaxAhead int64
	Time     string
	RawLimit int
}

// DefaultClocksConfig is the one of the reference.
func DefaultClocksConfig() ClocksConfig {
	d := operators.DefaultDecodeConfig()
	return ClocksConfig{Skew: DefaultSkewConfig(), Burst: DefaultBurstConfig(), Correct: true, Gateways: 4096,
		Future: d.Future, MaxAhead: pipeline.Ticks(d.MaxAhead), Time: "ts_event", RawLimit: d.RawLimit}
}

// Validate returns every problem.
func (c ClocksConfig) Validate() error {
	err := errors.Join(c.Skew.Validate(), c.Burst.Validate())
	if c.Gateways < 1 {
		err = errors.Join(err, fmt.Errorf("gateways %d: want 1 at least", c.Gateways))
	}
	return err
}

// Quality says how far a time can be trusted.
type Quality uint8

const (
	TimeAsSent    Quality = iota // by a clock of which nothing bad is known
	TimeCorrected                // the clock runs ahead
	TimeSkewed                   // the clock is off, or the way to the broker long
	TimeReplaced                 // the broker's, in place of none
	numQualities
)

func (q Quality) String() string {
	return [...]string{"", "corrected", "skewed", "replaced"}[q]
}

func qualityOf(word string) Quality {
	for q := range numQualities {
		if q.String() == word {
			return q
		}
	}
	return TimeAsSent
}

// Columns that Clocks adds to rows, and two that it reads.
const (
	ColOriginal = "ts_original"  // the time by the gateway's clock, where it is another
	ColQuality  = "time_quality" // null: TimeAsSent
	ColBurst    = "burst"        // the record is of a burst

	colGateway  = "gateway_id"
	colBuffered = "buffered"
)

// ClockedSchema is the schema of rows that went through Clocks.
func ClockedSchema(rows *arrow.Schema) *arrow.Schema {
	return arrow.NewSchema(append(slices.Clone(rows.Fields()),
		arrow.Field{Name: ColOriginal, Type: pipeline.Timestamp, Nullable: true},
		arrow.Field{Name: ColQuality, Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: ColBurst, Type: arrow.FixedWidthTypes.Boolean, Nullable: true}), nil)
}

// ClockCounts is what Clocks saw in a batch, and of how many gateways it knows the clock.
type ClockCounts struct {
	Records   [numQualities]int64
	KeptBack  int64 // records that a gateway kept back
	InBurst   int64
	Bursts    int64
	Future    int64 // records that were ahead of the broker all the same
	Forgotten int64 // gateways
	Known     int
	Skewed    int // of the known ones
}

// Clocks follows the clocks of gateways, split by split: it corrects times, says of each how far
// it can be trusted, and which records are of a burst. It is pipeline.Clock.
//
// A gateway whose records are in several splits has a clock in each, of which each rests on its own
// records: so what becomes of a row depends on its split alone.
type Clocks struct {
	// Seen, unless nil, is told of every batch.
	Seen func(ClockCounts)

	cfg    ClocksConfig
	mem    memory.Allocator
	schema *arrow.Schema
	// Places of columns, -1 where there is none.
	gateway, buffered, replaced int

	splits map[int32]map[string]*gatewayClock
	known  int // in all splits
	skewed int // of them
	counts ClockCounts

	// Scratch of a call.
	times     []int64
	originals []int64 // of rows with another time; none: noTime
	qualities []Quality
	bursts    []bool
	keep      []int32
	refused   []operators.Refusal
}

const noTime = pipeline.MinTicks

// gatewayClock is what a split says of a gateway.
type gatewayClock struct {
	skew      Skew
	burst     Burst
	corrected int64
	offset    int64 // of its newest record
	seen      int64 // broker timestamp of it
	skewed    bool
}

// NewClocks makes a clock for rows of the given schema.
func NewClocks(cfg ClocksConfig, rows *arrow.Schema, mem memory.Allocator) (*Clocks, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	at := func(name string, id arrow.Type) (int, error) {
		i := slices.Index(columnNames(rows), name)
		if i >= 0 && rows.Field(i).Type.ID() != id {
			return -1, fmt.Errorf("column %s is a %s", name, rows.Field(i).Type)
		}
		return i, nil
	}
	gateway, err := at(colGateway, arrow.STRING)
	buffered, err2 := at(colBuffered, arrow.BOOL)
	replaced, err3 := at(operators.ColReplaced, arrow.BOOL)
	if err := errors.Join(err, err2, err3); err != nil {
		return nil, err
	}
	return &Clocks{cfg: cfg, mem: mem, schema: ClockedSchema(rows), gateway: gateway, buffered: buffered, replaced: replaced, splits: map[int32]map[string]*gatewayClock{}}, nil
}

func columnNames(s *arrow.Schema) []string {
	var out []string
	for _, f := range s.Fields() {
		out = append(out, f.Name)
	}
	return out
}

// Schema implements pipeline.Clock.
func (c *Clocks) Schema() *arrow.Schema { return c.schema }

// Adjust implements pipeline.Clock.
func (c *Clocks) Adjust(w *pipeline.Wire, rows pipeline.Batch, out pipeline.Emitter) error {
	rec := rows.Rec
	n := int(rec.NumRows())
	c.counts = ClockCounts{}
	c.times = append(c.times[:0], pipeline.TicksOf(rec.Column(pipeline.ColTime).(*array.Timestamp))...)
	c.originals, c.qualities, c.bursts = slices.Grow(c.originals[:0], n)[:n], slices.Grow(c.qualities[:0], n)[:n], slices.Grow(c.bursts[:0], n)[:n]
	c.keep, c.refused = c.keep[:0], c.refused[:0]
	c.look(w.Split, rec)
	c.guard(w, rec)
	if c.Seen != nil {
		c.tally()
		c.Seen(c.counts)
	}
	if err := c.emit(w.Split, rec, out); err != nil {
		return err
	}
	return operators.EmitDead(c.mem, w, c.refused, c.cfg.RawLimit, out)
}

// look learns from every row in turn, and judges it by what is known with it.
func (c *Clocks) look(split int32, rec arrow.RecordBatch) {
	var gateways *array.String
	if c.gateway >= 0 {
		gateways = rec.Column(c.gateway).(*array.String)
	}
	buffered, replaced := boolsAt(rec, c.buffered), boolsAt(rec, c.replaced)
	ingests := pipeline.TicksOf(rec.Column(pipeline.ColIngest).(*array.Timestamp))
	offsets := rec.Column(pipeline.ColOffset).(*array.Int64).Int64Values()
	known := c.splits[split]
	if known == nil {
		known = map[string]*gatewayClock{}
		c.splits[split] = known
	}
	for i, ingest := range ingests {
		c.originals[i], c.qualities[i], c.bursts[i] = noTime, TimeAsSent, false
		switch {
		case isTrue(replaced, i): // it is no time of the gateway
			c.qualities[i] = TimeReplaced
			continue
		case ingest < 0 || gateways == nil || gateways.IsNull(i):
			continue
		}
		g := known[gateways.Value(i)]
		if g == nil {
			c.makeRoom(known)
			g = &gatewayClock{}
			known[strings.Clone(gateways.Value(i))] = g
			c.known++
		}
		g.offset, g.seen = offsets[i], ingest
		c.row(g, i, ingest, isTrue(buffered, i))
	}
}

// row learns from a row and judges it.
func (c *Clocks) row(g *gatewayClock, i int, ingest int64, buffered bool) {
	at := c.times[i]
	before := g.skew.Buffered
	g.skew.Record(&c.cfg.Skew, at, ingest, buffered)
	c.counts.KeptBack += g.skew.Buffered - before
	before = g.burst.Bursts
	c.bursts[i] = g.burst.Record(&c.cfg.Burst, at, ingest)
	c.counts.Bursts += g.burst.Bursts - before
	c.flag(g, g.skew.Skewed(&c.cfg.Skew))
	if !g.skewed {
		return
	}
	c.qualities[i] = TimeSkewed
	if right, changed := g.skew.Correct(&c.cfg.Skew, at); changed && c.cfg.Correct {
		g.corrected++
		c.times[i], c.originals[i], c.qualities[i] = right, at, TimeCorrected
	}
}

// flag notes whether the clock of a gateway is off.
func (c *Clocks) flag(g *gatewayClock, skewed bool) {
	switch {
	case skewed && !g.skewed:
		c.skewed++
	case g.skewed && !skewed:
		c.skewed--
	}
	g.skewed = skewed
}

// forget takes the gateways that were not heard for longest out of those of a split.
func (c *Clocks) forget(known map[string]*gatewayClock, n int) {
	oldest := slices.SortedFunc(maps.Keys(known), func(a, b string) int { return cmp.Compare(known[a].offset, known[b].offset) })
	for _, name := range oldest[:n] {
		c.flag(known[name], false)
		delete(known, name)
	}
	c.known -= n
	c.counts.Forgotten += int64(n)
}

// makeRoom forgets gateways where there are as many as may be known.
func (c *Clocks) makeRoom(known map[string]*gatewayClock) {
	if n := len(known); n >= c.cfg.Gateways {
		c.forget(known, (n+3)/4)
	}
}

// guard decides on rows that are ahead of the broker whatever their clock.
func (c *Clocks) guard(w *pipeline.Wire, rec arrow.RecordBatch) {
	ingests := pipeline.TicksOf(rec.Column(pipeline.ColIngest).(*array.Timestamp))
	offsets := rec.Column(pipeline.ColOffset).(*array.Int64).Int64Values()
	at := 0 // in the wire
	for i, t := range c.times {
		reason, why := "", ""
		switch {
		case t < pipeline.MinEventTime: // an offset of centuries
			reason, why = operators.ReasonTimeRange, "the time of its gateway, corrected by the others, is before 1900"
		case ingests[i] < 0 || c.cfg.Future == operators.FutureKeep || t <= pipeline.AddTicks(ingests[i], c.cfg.MaxAhead):
		case c.cfg.Future == operators.FutureClamp:
			c.counts.Future++
			c.originals[i] = pipeline.TicksOf(rec.Column(pipeline.ColTime).(*array.Timestamp))[i]
			c.times[i], c.qualities[i] = ingests[i], TimeReplaced
		default:
			c.counts.Future++
			reason, why = operators.ReasonFuture, operators.FutureText(c.cfg.Time, t, ingests[i], spanOf(c.cfg.MaxAhead))
		}
		if reason == "" {
			c.keep = append(c.keep, int32(i))
			continue
		}
		for w.Offset[at] < offsets[i] {
			at++
		}
		c.refused = append(c.refused, operators.Refusal{Record: int32(at), Timed: reason == operators.ReasonFuture, Time: t, Reason: reason, Err: why})
	}
}

// tally counts the rows of the batch.
func (c *Clocks) tally() {
	c.counts.Known, c.counts.Skewed = c.known, c.skewed
	for i, q := range c.qualities {
		c.counts.Records[q]++
		if c.bursts[i] {
			c.counts.InBurst++
		}
	}
}

// emit sends the rows that stay.
func (c *Clocks) emit(split int32, rec arrow.RecordBatch, out pipeline.Emitter) error {
	if len(c.keep) == 0 {
		return nil
	}
	when, original := array.NewTimestampBuilder(c.mem, pipeline.Timestamp), array.NewTimestampBuilder(c.mem, pipeline.Timestamp)
	quality, burst := array.NewStringBuilder(c.mem), array.NewBooleanBuilder(c.mem)
	defer func() {
		when.Release()
		original.Release()
		quality.Release()
		burst.Release()
	}()
	for i, t := range c.times {
		when.Append(arrow.Timestamp(t))
		if c.originals[i] == noTime {
			original.AppendNull()
		} else {
			original.Append(arrow.Timestamp(c.originals[i]))
		}
		if c.qualities[i] == TimeAsSent {
			quality.AppendNull()
		} else {
			quality.Append(c.qualities[i].String())
		}
	}
	burst.AppendValues(c.bursts, nil)
	mine := []arrow.Array{when.NewArray(), original.NewArray(), quality.NewArray(), burst.NewArray()}
	defer func() {
		for _, a := range mine {
			a.Release()
		}
	}()
	columns := append(append([]arrow.Array{mine[0]}, rec.Columns()[1:]...), mine[1:]...)
	all := array.NewRecordBatch(c.schema, columns, rec.NumRows())
	defer func() { all.Release() }()
	if len(c.keep) < len(c.times) {
		kept, err := pipeline.Gather(c.mem, all, c.keep)
		if err != nil {
			return err
		}
		all.Release()
		all = kept
	}
	return out.Emit(pipeline.Out, pipeline.Batch{Rec: all, Split: split, Passed: pipeline.MinTicks})
}

func boolsAt(rec arrow.RecordBatch, column int) *array.Boolean {
	if column < 0 {
		return nil
	}
	return rec.Column(column).(*array.Boolean)
}

func isTrue(a *array.Boolean, i int) bool { return a != nil && a.IsValid(i) && a.Value(i) }
