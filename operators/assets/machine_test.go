package assets_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/operators/assets"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// rowSchema has the columns of feed ble that the machine reads.
func rowSchema() *arrow.Schema {
	fixed := func(name string, scale string) arrow.Field {
		f := arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Int64, Nullable: true}
		if scale != "" {
			f.Metadata = arrow.NewMetadata([]string{pipeline.ScaleKey}, []string{scale})
		}
		return f
	}
	real := func(name string) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Float64, Nullable: true}
	}
	return arrow.NewSchema(append(pipeline.RowFields(),
		arrow.Field{Name: "asset_id", Type: arrow.BinaryTypes.String}, arrow.Field{Name: "gateway_id", Type: arrow.BinaryTypes.String, Nullable: true},
		fixed("seq", ""), fixed("rssi_dbm", ""), fixed("battery_mv", ""), fixed("temp_c", "2"), fixed("accel_x_mg", ""), fixed("accel_y_mg", ""), fixed("accel_z_mg", ""),
		fixed("lat", "7"), fixed("lon", "7"), real("acc_m"), real("speed_mps"), real("load_kg")), nil)
}

// tagRow is a row of a split; what is not set is null.
type tagRow struct {
	split            int32
	offset, at       int64
	asset, gateway   string
	seq, rssi, mv    int64 // -1, 0, 0: null
	temp             float64
	accel            *[3]int64
	pos              *assets.Position
	acc, speed, load float64 // negative: null
}

func appendTagRow(b *array.RecordBuilder, r tagRow) {
	b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(r.at))
	b.Field(1).(*array.Int32Builder).Append(r.split)
	b.Field(2).(*array.Int64Builder).Append(r.offset)
	b.Field(3).(*array.TimestampBuilder).Append(arrow.Timestamp(r.at))
	b.Field(4).(*array.StringBuilder).Append(r.asset)
	text := b.Field(5).(*array.StringBuilder)
	if r.gateway == "" {
		text.AppendNull()
	} else {
		text.Append(r.gateway)
	}
	whole := func(i int, v int64, there bool) {
		if there {
			b.Field(i).(*array.Int64Builder).Append(v)
		} else {
			b.Field(i).AppendNull()
		}
	}
	real := func(i int, v float64) {
		if v >= 0 {
			b.Field(i).(*array.Float64Builder).Append(v)
		} else {
			b.Field(i).AppendNull()
		}
	}
	whole(6, r.seq, r.seq >= 0)
	whole(7, r.rssi, r.rssi != 0)
	whole(8, r.mv, r.mv != 0)
	whole(9, int64(r.temp*100), r.mv != 0)
	for i := range 3 {
		if r.accel == nil {
			b.Field(10 + i).AppendNull()
		} else {
			whole(10+i, r.accel[i], true)
		}
	}
	if r.pos == nil {
		b.Field(13).AppendNull()
		b.Field(14).AppendNull()
	} else {
		whole(13, int64(math.Round(r.pos.Lat*1e7)), true)
		whole(14, int64(math.Round(r.pos.Lon*1e7)), true)
	}
	real(15, r.acc)
	real(16, r.speed)
	real(17, r.load)
}

// town is a world of three sites with gateways, a site without a fence, and a truck.
func town(t testing.TB) assets.World {
	fences, err := assets.NewFences([]assets.Fence{
		{ID: "north", Kind: "depot", Center: offset(depot, 0, 5000), Radius: 200},
		{ID: "south", Kind: "depot", Rings: [][]assets.Position{square(offset(depot, 0, -5000), 300)}},
		{ID: "dock", Kind: "dock", Center: offset(depot, 0, 5100), Radius: 60},
		{ID: "shop", Kind: "customer", Center: offset(depot, 4000, 0), Radius: 150},
	}, 50)
	if err != nil {
		t.Fatal(err)
	}
	text := "gateway_id,site,lat,lon,vehicle\ntruck,,,,true\nfar1,far,,,\nfar2,far,,,\nother,elsewhere,,,\n"
	for id, at := range townGateways() {
		text += fmt.Sprintf("%s,%s,%.7f,%.7f,\n", id, strings.TrimRight(id, "0123456789"), at.Lat, at.Lon)
	}
	gateways, err := assets.ParseGateways([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return assets.World{Fences: fences, Gateways: gateways}
}

func townGateways() map[string]assets.Position {
	return map[string]assets.Position{"north1": offset(depot, 20, 5000), "north2": offset(depot, -80, 4950), "dock1": offset(depot, 0, 5110), "south1": offset(depot, 0, -5000),
		"south2": offset(depot, 200, -5100), "shop1": offset(depot, 4000, 10)}
}

// life is a random way of a cage through the town, in rows by time.
func life(rng *rand.Rand, asset string, from, hours int64) []tagRow {
	gateways := townGateways()
	sites := map[string][]string{"north": {"north1", "north2", "dock1"}, "south": {"south1", "south2"}, "shop": {"shop1"}, "far": {"far1", "far2"}, "elsewhere": {"other"}}
	names := []string{"north", "south", "shop", "far", "elsewhere"}
	var out []tagRow
	at, seq := from+rng.Int64N(60)*second, int64(0)
	accel := [3]int64{0, 0, 1000}
	mv := 2400 + rng.Int64N(700)
	say := func(r tagRow) {
		r.asset, r.at = asset, at
		out = append(out, r)
		if rng.IntN(12) == 0 { // delivered again
			out = append(out, r)
		}
	}
	for at < from+hours*3600*second {
		site := names[rng.IntN(len(names))]
		if rng.IntN(4) == 0 {
			mv = 2300 + rng.Int64N(800)
		}
		if rng.IntN(2) == 0 {
			accel = [3]int64{985, 20, 174}
		} else {
			accel = [3]int64{5, -4, 1001}
		}
		for range 4 + rng.IntN(60) { // stays
			seq++
			for _, g := range sites[site] {
				if rng.IntN(3) == 0 {
					continue
				}
				r := tagRow{gateway: g, seq: seq % 256, rssi: -60 - rng.Int64N(40), mv: mv + rng.Int64N(20), temp: 4 - float64(rng.IntN(6)), accel: &accel, acc: -1, speed: -1, load: -1}
				switch rng.IntN(25) {
				case 0:
					r.seq = -1
				case 1:
					r.rssi = 127
				case 2:
					r.load = float64(rng.IntN(2) * 80)
				}
				if p, there := gateways[g]; there && rng.IntN(10) == 0 {
					p = offset(p, rng.NormFloat64()*10, rng.NormFloat64()*10)
					r.pos, r.acc = &p, 5
				}
				say(r)
				at += rng.Int64N(second)
			}
			at += 10*second + rng.Int64N(90*second)
		}
		if rng.IntN(3) == 0 {
			at += rng.Int64N(14 * 3600 * second) // silence
			continue
		}
		a, b := gateways[sites[site][0]], offset(depot, rng.NormFloat64()*5000, rng.NormFloat64()*5000)
		n := 3 + rng.IntN(15)
		for i := range n { // drives
			seq++
			p := assets.Position{Lat: a.Lat + (b.Lat-a.Lat)*float64(i)/float64(n), Lon: a.Lon + (b.Lon-a.Lon)*float64(i)/float64(n)}
			r := tagRow{gateway: "truck", seq: seq % 256, rssi: -55, pos: &p, acc: 8, speed: 12, load: -1}
			if a.Lat == 0 {
				r.pos = nil
			}
			say(r)
			at += 20*second + rng.Int64N(60*second)
		}
	}
	return out
}

// factory deals lives to splits, some rows by up to bound behind others.
func factory(seed uint64, cages int, hours, bound int64) [][]tagRow {
	rng := rand.New(rand.NewPCG(seed, 7))
	splits := make([][]tagRow, 1+rng.IntN(3))
	start := int64(1_772_434_800) * second
	for i := range cages {
		k := rng.IntN(len(splits))
		for _, r := range life(rng, fmt.Sprintf("RC-%03d", i), start, hours) {
			if rng.IntN(5) == 0 {
				k = rng.IntN(len(splits)) // another gateway sends to another split
			}
			splits[k] = append(splits[k], r)
		}
	}
	for i, rows := range splits {
		delay := make(map[int]int64, len(rows))
		order := make([]int, len(rows))
		for k := range rows {
			order[k], delay[k] = k, rows[k].at+rng.Int64N(bound*3/2)
		}
		slices.SortStableFunc(order, func(a, b int) int { return int(max(-1, min(1, delay[a]-delay[b]))) })
		sorted := make([]tagRow, len(rows))
		for k, o := range order {
			sorted[k] = rows[o]
			sorted[k].split, sorted[k].offset = int32(i), int64(k)
		}
		splits[i] = sorted
	}
	return splits
}

// tagJob drives Keyed operators of some shards as the runtime does.
type tagJob struct {
	pipelinetest.Shards
	t        *testing.T
	mem      memory.Allocator
	ops      []*operators.Keyed[assets.Asset]
	machines []*assets.Machine
	out      []string
	late     int
	forget   bool // what is restored is not all
	cfg      assets.Config
	open     int // assets that were remembered at the end
}

func (j *tagJob) start(shards int) {
	keyer, err := pipeline.NewKeyer(rowSchema(), []string{"asset_id"}, 7)
	if err != nil {
		j.t.Fatal(err)
	}
	j.T, j.Keyer, j.Out = j.t, keyer, j
	j.ops, j.machines = nil, nil
	var ops []pipeline.Stateful
	for range shards {
		m, err := assets.NewMachine(j.cfg, town(j.t), rowSchema(), j.mem)
		if err != nil {
			j.t.Fatal(err)
		}
		k, err := operators.NewKeyed(operators.KeyedConfig[assets.Asset]{Key: []string{"asset_id"}, Seed: 7, Append: assets.Append, Read: func(b []byte, s *assets.Asset) error {
			err := m.Read(b, s)
			if j.forget {
				s.ForgetMovement()
			}
			return err
		}}, m, rowSchema(), j.mem)
		if err != nil {
			j.t.Fatal(err)
		}
		j.ops, j.machines, ops = append(j.ops, k), append(j.machines, m), append(ops, k)
	}
	j.Start(ops...)
}

// Emit implements pipeline.Emitter.
func (j *tagJob) Emit(p pipeline.Port, b pipeline.Batch) error {
	if p == pipeline.Late {
		j.late += b.NumRows()
		return nil
	}
	for i := range int(b.Rec.NumRows()) {
		row := []string{p.String()}
		for c := range int(b.Rec.NumCols()) {
			row = append(row, b.Rec.Column(c).ValueStr(i))
		}
		j.out = append(j.out, strings.Join(row, " "))
	}
	return nil
}

// Count implements pipeline.Emitter.
func (j *tagJob) Count(pipeline.Fate, int32, int64) {}

func (j *tagJob) record(rows []tagRow) arrow.RecordBatch {
	b := array.NewRecordBuilder(j.mem, rowSchema())
	defer b.Release()
	for _, r := range rows {
		appendTagRow(b, r)
	}
	return b.NewRecordBatch()
}

// process deals a run of rows of one split to the shards.
func (j *tagJob) process(marks *pipeline.Marks, rows []tagRow) {
	rec := j.record(rows)
	defer rec.Release()
	j.Rows(marks, rows[0].split, rec)
}

// restart goes on from the last checkpoint with another number of shards.
func (j *tagJob) restart(shards int) {
	j.stop()
	j.start(shards)
	j.Restore(nil)
}

func (j *tagJob) stop() {
	for i, op := range j.ops {
		op.Close()
		j.machines[i].Close()
	}
}

// play runs the rows through the operator in random cuts.
func (j *tagJob) play(rng *rand.Rand, splits [][]tagRow, bound int64) (restarts int) {
	j.start(1 + rng.IntN(3))
	marks := pipeline.NewMarks(bound, pipeline.MaxTicks)
	for range splits {
		marks.Add()
	}
	rest := slices.Clone(splits)
	for left, ended := len(rest), make([]bool, len(rest)); left > 0; {
		s := rng.IntN(len(rest))
		switch {
		case len(rest[s]) > 0:
			n := 1 + rng.IntN(min(len(rest[s]), 1<<rng.IntN(10)))
			j.process(marks, rest[s][:n])
			rest[s] = rest[s][n:]
		case !ended[s]:
			ended[s] = true
			marks.End(int32(s))
			left--
		}
		if rng.IntN(3) == 0 || left == 0 {
			j.Advance(marks)
		}
		switch rng.IntN(25) {
		case 0, 1:
			j.Checkpoint(rng.IntN(20) == 0)
		case 2:
			j.Checkpoint(false)
			j.restart(1 + rng.IntN(3))
			restarts++
		}
	}
	for _, op := range j.ops {
		j.open += op.Open()
	}
	j.Drop()
	j.stop()
	return restarts
}

// plainly gives the rows that are in time to one machine, in order and one at a time.
func (j *tagJob) plainly(splits [][]tagRow, bound int64) {
	var rows []tagRow
	newest := int64(math.MinInt64)
	for _, split := range splits {
		mark := int64(math.MinInt64)
		for _, r := range split {
			if r.at <= mark {
				j.late++
				continue
			}
			mark = max(mark, r.at-bound-1)
			rows = append(rows, r)
		}
		newest = max(newest, mark)
	}
	slices.SortFunc(rows, func(a, b tagRow) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.split, b.split), cmp.Compare(a.offset, b.offset))
	})
	m, err := assets.NewMachine(j.cfg, town(j.t), rowSchema(), j.mem)
	if err != nil {
		j.t.Fatal(err)
	}
	defer m.Close()
	states := map[string]*assets.Asset{}
	for _, r := range rows {
		if states[r.asset] == nil {
			states[r.asset] = &assets.Asset{}
		}
		rec := j.record([]tagRow{r})
		m.Row(r.asset, states[r.asset], rec, 0)
		rec.Release()
	}
	for _, asset := range slices.Sorted(maps.Keys(states)) {
		due := m.Advance(asset, states[asset], newest)
		if due == operators.Forget {
			continue
		}
		if j.open++; due <= newest {
			j.t.Errorf("%s is due at %d, and time is at %d", asset, due, newest)
		}
	}
	if err := m.Flush(j); err != nil {
		j.t.Fatal(err)
	}
}

// TestMachine: events and places depend on the rows alone, not on batches, marks, shards and
// restarts. Of one asset they come in the same order too.
func TestMachine(t *testing.T) {
	const bound = 15 * second
	words := map[string]int{}
	restarts, late := 0, 0
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
			defer mem.AssertSize(t, 0)
			splits := factory(seed, 4, 16, bound)
			want := &tagJob{t: t, mem: mem, cfg: assets.DefaultConfig()}
			want.plainly(splits, bound)
			got := &tagJob{t: t, mem: mem, cfg: assets.DefaultConfig()}
			rng := rand.New(rand.NewPCG(seed, 9))
			restarts += got.play(rng, splits, bound)
			if late += want.late; got.late != want.late {
				t.Errorf("%d rows are late, want %d", got.late, want.late)
			}
			for _, out := range []*[]string{&want.out, &got.out} {
				slices.SortStableFunc(*out, func(a, b string) int { return cmp.Compare(assetOf(a), assetOf(b)) })
			}
			if !slices.Equal(got.out, want.out) {
				i := 0
				for i < min(len(got.out), len(want.out)) && got.out[i] == want.out[i] {
					i++
				}
				t.Fatalf("%d rows, want %d; the first that differs is %d:\n%s\nwant\n%s", len(got.out), len(want.out), i, strings.Join(got.out[i:min(i+3, len(got.out))], "\n"), strings.Join(want.out[i:min(i+3, len(want.out))], "\n"))
			}
			ids := map[string]bool{}
			for _, row := range want.out {
				f := strings.Fields(row)
				if f[0] == pipeline.Out.String() {
					// What the id of an event is made of: time to the ms, kind, event, asset, fence.
					id := strings.Join([]string{f[1][:min(len(f[1]), 23)], f[2], f[3], f[8], f[9]}, " ")
					if ids[id] {
						t.Errorf("two events are %s", id)
					}
					ids[id] = true
					words[f[2]+" "+f[3]+" "+f[6]]++
				} else {
					words["now"]++
				}
			}
		})
	}
	for _, w := range []string{"geofence enter inside", "geofence exit outside", "geofence dwell inside", "transit start in_transit", "transit end at_rest", "bottom open open", "bottom close closed",
		"availability available available", "availability unavailable in_use", "availability unavailable in_transit", "availability unavailable offline", "now"} {
		if words[w] < 5 {
			t.Errorf("%d times %s: the test proves little", words[w], w)
		}
	}
	if restarts < 10 || late < 20 {
		t.Errorf("%d restarts, %d late rows: the test has become too easy", restarts, late)
	}
}

// TestMachineForgets: an asset that is silent for too long is forgotten, and begins anew when it is
// heard again, by the rows alone too. What it has told is what it would have told by then.
func TestMachineForgets(t *testing.T) {
	const bound, hour = 15 * second, 3600 * second
	cfg := assets.DefaultConfig()
	cfg.ForgetAfter = 25 * hour
	anew, gone := 0, 0
	for seed := range uint64(4) {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		defer mem.AssertSize(t, 0)
		splits := factory(seed, 5, 48, bound)
		for i := range splits {
			splits[i] = slices.DeleteFunc(splits[i], func(r tagRow) bool { // each cage has its own silence
				from := begin + int64(r.asset[5]-'0')*5*hour + 2*hour
				return r.at > from && r.at < from+27*hour || r.asset == "RC-004" && r.at > from
			})
		}
		want, got := &tagJob{t: t, mem: mem, cfg: cfg}, &tagJob{t: t, mem: mem, cfg: cfg}
		want.plainly(splits, bound)
		got.play(rand.New(rand.NewPCG(seed, 9)), splits, bound)
		if got.open != want.open {
			t.Errorf("%d: %d assets are remembered, want %d", seed, got.open, want.open)
		}
		gone += 5 - got.open
		always := &tagJob{t: t, mem: mem, cfg: cfg}
		always.cfg.ForgetAfter = 0
		always.plainly(splits, bound)
		if always.open != 5 {
			t.Errorf("%d: %d assets are remembered, want all", seed, always.open)
		}
		for _, j := range []*tagJob{want, got, always} {
			slices.SortStableFunc(j.out, func(a, b string) int { return cmp.Compare(assetOf(a), assetOf(b)) })
		}
		if !slices.Equal(got.out, want.out) {
			t.Errorf("%d: %d rows, want %d, or they are others", seed, len(got.out), len(want.out))
		}
		if !slices.Equal(want.out, always.out) {
			anew++
		}
		early := func(rows []string) []string { // what time tells before any is forgotten; of legs nobody knows until it is back
			return slices.DeleteFunc(slices.Clone(rows), func(row string) bool {
				f := strings.Fields(strings.TrimPrefix(row, pipeline.Side(0).String()))
				if strings.HasPrefix(row, pipeline.Out.String()) {
					f = f[1:]
				}
				return f[0] >= "2026-03-03T07:00:00" || f[1] == "transit"
			})
		}
		if a, b := early(want.out), early(always.out); len(a) == 0 || !slices.Equal(a, b) {
			t.Errorf("%d: %d rows before anything is forgotten, want %d, or they are others", seed, len(a), len(b))
		}
	}
	if anew < 3 || gone < 2 {
		t.Errorf("%d of 4 jobs are others when nothing is forgotten, %d assets are gone at the end: the test has become too easy", anew, gone)
	}
}

// TestMachineRegistry: an asset that the registry has no more is forgotten, and nothing is told of it:
// when it would be due, and when it is heard.
func TestMachineRegistry(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	j := &tagJob{t: t, mem: mem, cfg: assets.DefaultConfig()}
	j.start(1)
	defer j.stop()
	marks := pipeline.NewMarks(0, pipeline.MaxTicks)
	marks.Add()
	hear := func(at int64, ids ...string) {
		var rows []tagRow
		for _, id := range ids {
			rows = append(rows, tagRow{at: begin + at*second, asset: id, gateway: "shop1", seq: -1, rssi: -60, acc: -1, speed: -1, load: -1})
		}
		j.process(marks, rows)
		j.Advance(marks)
	}
	open := func(want int) {
		t.Helper()
		if n := j.ops[0].Open(); n != want {
			t.Errorf("%d assets are remembered, want %d", n, want)
		}
	}
	hear(0, "RC-000", "RC-001", "RC-002")
	hear(10, "RC-000")
	open(3)
	registry, err := assets.ParseRegistry([]byte("asset_id\nRC-000\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.ops[0].Refer(pipeline.Reference{Name: assets.RegistryFile, Value: registry}); err != nil {
		t.Fatal(err)
	}
	hear(20, "RC-001")
	hear(30, "RC-000")
	open(2)
	hear(120, "RC-000") // the window of RC-002 is over
	open(1)
	for _, row := range j.out {
		if !strings.Contains(row, "RC-000") {
			t.Errorf("is told of an asset that is not registered: %s", row)
		}
	}
	if len(j.out) == 0 {
		t.Error("nothing is told")
	}
}

// TestMachineForgetsSooner: a restart that has forget_after forgets assets that were silent without it,
// and were due never.
func TestMachineForgetsSooner(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	j := &tagJob{t: t, mem: mem, cfg: assets.DefaultConfig()}
	j.cfg.ForgetAfter = 0
	j.start(1)
	marks := pipeline.NewMarks(0, pipeline.MaxTicks)
	marks.Add()
	hear := func(at int64, id string) {
		j.process(marks, []tagRow{{at: begin + at*3600*second, asset: id, gateway: "shop1", seq: -1, rssi: -60, acc: -1, speed: -1, load: -1}})
		j.Advance(marks)
	}
	hear(0, "RC-000")
	hear(40*24, "RC-001")
	hear(41*24, "RC-001")
	if n := j.ops[0].Open(); n != 2 {
		t.Errorf("%d assets are remembered without forget_after, want 2", n)
	}
	j.Checkpoint(true)
	j.cfg.ForgetAfter = assets.DefaultConfig().ForgetAfter
	j.restart(1)
	hear(41*24+1, "RC-001")
	if n := j.ops[0].Open(); n != 1 {
		t.Errorf("%d assets are remembered, want 1", n)
	}
	j.Drop()
	j.stop()
}

// TestMachineNotices: a state that loses something in a checkpoint is noticed.
func TestMachineNotices(t *testing.T) {
	const bound = 15 * second
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	for seed := range uint64(10) {
		splits := factory(seed, 4, 16, bound)
		cfg := assets.DefaultConfig()
		want, got := &tagJob{t: t, mem: mem, cfg: cfg}, &tagJob{t: t, mem: mem, cfg: cfg, forget: true}
		want.plainly(splits, bound)
		got.play(rand.New(rand.NewPCG(seed, 9)), splits, bound)
		slices.Sort(want.out)
		slices.Sort(got.out)
		if !slices.Equal(got.out, want.out) {
			return
		}
	}
	t.Error("nobody noticed that movement was forgotten at every restart")
}

// assetOf is the port and the asset of a row.
func assetOf(row string) string {
	i := strings.Index(row, "RC-")
	return row[:strings.Index(row, " ")] + row[i:i+6]
}
