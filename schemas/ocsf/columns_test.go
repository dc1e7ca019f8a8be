package ocsf_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/pipeline/pipelinetest"
	"github.com/tidemark/tidemark/schemas/ocsf"
)

// configOf asks for the columns that an event has values for.
func configOf(t testing.TB, event []byte) ocsf.ColumnsConfig {
	t.Helper()
	o := tree(t, event)
	class, err := o["class_uid"].(json.Number).Int64()
	if err != nil {
		t.Fatal(err)
	}
	cfg := ocsf.ColumnsConfig{Class: class}
	if m, ok := o["metadata"].(map[string]any); ok {
		if list, ok := m["profiles"].([]any); ok {
			for _, p := range list {
				cfg.Profiles = append(cfg.Profiles, p.(string))
			}
		}
	}
	paths := map[string]bool{}
	leaves(o, "", paths)
	cfg.Paths = slices.Sorted(maps.Keys(paths))
	return cfg
}

// leaves collects the paths of the values of an event. What is below data has no schema.
func leaves(v any, path string, to map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			at := strings.TrimPrefix(path+"."+name, ".")
			if at == "unmapped" || name == "data" {
				to[at] = true
				continue
			}
			leaves(member, at, to)
		}
		return
	case []any:
		for _, e := range v {
			if o, ok := e.(map[string]any); ok {
				leaves(o, path, to)
			} else {
				to[path] = true
			}
		}
		return
	}
	to[path] = true
}

// asRow is an event as it comes back from a row that has all its columns: without nulls and
// empty objects, and the values of unmapped are texts.
func asRow(t testing.TB, event []byte) map[string]any {
	t.Helper()
	o := tree(t, event)
	own, ok := o["unmapped"].(map[string]any)
	if ok {
		delete(o, "unmapped")
	}
	prune(o)
	flat := map[string]any{}
	flatten(t, own, "", flat)
	if len(flat) > 0 {
		o["unmapped"] = flat
	}
	return o
}

// prune removes nulls and empty objects, but not from lists and what has no schema.
func prune(v any) (empty bool) {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		for name, member := range v {
			if name != "data" && name != "xattributes" && prune(member) {
				delete(v, name)
			}
		}
		return len(v) == 0
	case []any:
		for _, e := range v {
			prune(e)
		}
	}
	return false
}

func flatten(t testing.TB, o map[string]any, path string, to map[string]any) {
	for name, v := range o {
		at := strings.TrimPrefix(path+"."+name, ".")
		switch v := v.(type) {
		case nil:
		case map[string]any:
			flatten(t, v, at, to)
		case []any:
			to[at] = string(encode(t, v))
		case string:
			to[at] = v
		default:
			to[at] = fmt.Sprint(v)
		}
	}
}

// sameJSON compares values; 24 and 24.0 are the same.
func sameJSON(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, sameJSON)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, sameJSON)
	case json.Number:
		b, ok := b.(json.Number)
		if !ok {
			return false
		}
		x, okX := new(big.Rat).SetString(string(a))
		y, okY := new(big.Rat).SetString(string(b))
		return okX && okY && x.Cmp(y) == 0
	}
	return a == b
}

func columns(t testing.TB, s *ocsf.Schema, cfg ocsf.ColumnsConfig) *ocsf.Columns {
	t.Helper()
	c, err := ocsf.NewColumns(s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rows ends the batch and returns its events.
func rows(t testing.TB, c *ocsf.Columns) []string {
	t.Helper()
	n := c.Len()
	rec := c.NewRecordBatch()
	defer rec.Release()
	if int(rec.NumRows()) != n || c.Len() != 0 || !rec.Schema().Equal(c.Schema()) {
		t.Fatalf("a batch of %d rows for %d events, %d left", rec.NumRows(), n, c.Len())
	}
	checkLengths(t, rec)
	var out []string
	for i := range n {
		out = append(out, string(ocsf.AppendEvent(nil, rec, i)))
	}
	return out
}

func checkLengths(t testing.TB, rec arrow.RecordBatch) {
	t.Helper()
	for i, col := range rec.Columns() {
		if col.Len() != int(rec.NumRows()) || !rec.Schema().Field(i).Nullable && col.NullN() > 0 {
			t.Fatalf("column %s has %d values, %d of them null, of %d rows", rec.ColumnName(i), col.Len(), col.NullN(), rec.NumRows())
		}
	}
}

// roundTrip checks that an event comes back from its columns.
func roundTrip(t testing.TB, s *ocsf.Schema, cfg ocsf.ColumnsConfig, event []byte) {
	t.Helper()
	c := columns(t, s, cfg)
	if err := c.Append(event); err != nil {
		t.Fatalf("%v\n%s", err, event)
	}
	got := rows(t, c)[0]
	back := tree(t, []byte(got))
	prune(back) // objects that are required are there, empty or not
	if want := asRow(t, event); !sameJSON(back, want) {
		t.Fatalf("%s\ncame back as\n%s\nwant\n%s", event, got, encode(t, want))
	}
	if err := c.Append([]byte(got)); err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	if again := rows(t, c)[0]; again != got {
		t.Fatalf("%s\nthe second time\n%s", got, again)
	}
}

func TestColumnsOfSamples(t *testing.T) {
	samplesAndSchemas(t, func(t *testing.T, s *ocsf.Schema, event []byte) {
		roundTrip(t, s, configOf(t, event), event)
	})
}

// The valid ones among the cases of the validator come back too.
func TestColumnsOfValidCases(t *testing.T) {
	var golden struct {
		Cases []struct {
			Name    string          `json:"name"`
			Version ocsf.Version    `json:"schema_version"`
			Event   json.RawMessage `json:"event"`
			Expect  struct {
				Errors []goldenFinding `json:"errors"`
			} `json:"expect"`
		} `json:"cases"`
	}
	raw, err := os.ReadFile(pipelinetest.Golden(t, "ocsf-validation.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &golden); err != nil {
		t.Fatal(err)
	}
	built, valid := builtIn(t), 0
	for _, c := range golden.Cases {
		if len(c.Expect.Errors) > 0 {
			continue
		}
		valid++
		t.Run(c.Name, func(t *testing.T) { roundTrip(t, built[c.Version], configOf(t, c.Event), c.Event) })
	}
	if valid == 0 {
		t.Error("no case is valid")
	}
}

// Whatever the schema allows comes back, all profiles on.
func TestColumnsOfRandomEvents(t *testing.T) {
	for v, s := range builtIn(t) {
		t.Run(string(v), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(5, 1))
			classes := s.Classes()
			for i := range 300 {
				class := classes[rnd.IntN(len(classes))]
				event, paths := s.RandomEvent(rnd, class, i%5)
				roundTrip(t, s, ocsf.ColumnsConfig{Class: class, Profiles: s.AllProfiles(), Paths: paths}, event)
			}
		})
	}
}

// smallClass has an attribute of every type.
const smallClass = `{"version":"2.0.0","profiles":{"p":{},"datetime":{}},
"dictionary":{"attributes":{},"types":{"attributes":{"string_t":{},"integer_t":{},"float_t":{},"boolean_t":{},"json_t":{},"long_t":{},
 "timestamp_t":{"type":"long_t"},"datetime_t":{"type":"string_t"}}}},
"objects":{"object":{"attributes":{}},
 "box":{"attributes":{"id":{"type":"integer_t","requirement":"required"},"name":{"type":"string_t"},"box":{"type":"object_t","object_type":"box"},
  "boxes":{"type":"object_t","object_type":"box","is_array":true}}},
 "bag":{"attributes":{"a":{"type":"string_t"},"b":{"type":"string_t"},"of_p":{"type":"string_t","profiles":["p"],"requirement":"required"}},"constraints":{"just_one":["b"]}},
 "shell":{"attributes":{"box":{"type":"object_t","object_type":"box"}}}},
"classes":{"thing":{"uid":1,"attributes":{
 "class_uid":{"type":"integer_t","requirement":"required"},"bag":{"type":"object_t","object_type":"bag","requirement":"required"},
 "unmapped":{"type":"object_t","object_type":"object"},
 "i":{"type":"integer_t"},"l":{"type":"long_t"},"f":{"type":"float_t"},"s":{"type":"string_t"},"yes":{"type":"boolean_t"},"j":{"type":"json_t"},
 "time":{"type":"timestamp_t"},"time_dt":{"type":"datetime_t","profiles":["datetime"]},"type_uid":{"type":"integer_t"},
 "ints":{"type":"integer_t","is_array":true},"words":{"type":"string_t","is_array":true},"js":{"type":"json_t","is_array":true},
 "open":{"type":"object_t","object_type":"object"},"shell":{"type":"object_t","object_type":"shell"},
 "box":{"type":"object_t","object_type":"box"},"boxes":{"type":"object_t","object_type":"box","is_array":true}}}}}`

func smallColumns(t testing.TB, profiles []string, paths ...string) (*ocsf.Columns, error) {
	t.Helper()
	s, err := ocsf.ReadSchema(strings.NewReader(smallClass))
	if err != nil {
		t.Fatal(err)
	}
	return ocsf.NewColumns(s, ocsf.ColumnsConfig{Class: 1, Profiles: profiles, Paths: paths})
}

func TestColumnsSchema(t *testing.T) {
	for _, c := range []struct {
		profiles, paths []string
		want            string
	}{
		{nil, nil, "bag: struct<b: utf8?>, class_uid: int32"},
		{nil, []string{"bag", "unmapped"}, "bag: struct<a: utf8?, b: utf8?>, class_uid: int32"},
		{[]string{"p"}, nil, "bag: struct<of_p: utf8?>, class_uid: int32"},
		{[]string{"datetime"}, []string{"i", "l", "f", "s", "yes", "j", "time", "time_dt", "type_uid", "open", "i"},
			"bag: struct<b: utf8?>, class_uid: int32, f: float64?, i: int32?, j: json?, l: int64?, open: json?, s: utf8?, time: int64?, " +
				"time_dt: timestamp[ms, tz=UTC]?, type_uid: int64?, yes: bool?"},
		{nil, []string{"boxes.name", "box.box", "ints", "js"},
			"bag: struct<b: utf8?>, box: struct<box: struct<id: int32, name: utf8?>?, id: int32>?, " +
				"boxes: list<struct<id: int32, name: utf8?>>?, class_uid: int32, ints: list<int32>?, js: list<json>?"},
	} {
		cols, err := smallColumns(t, c.profiles, c.paths...)
		if err != nil {
			t.Errorf("%v: %v", c.paths, err)
			continue
		}
		fields := cols.Schema().Fields()
		last := fields[len(fields)-1]
		if got := describe(fields[:len(fields)-1]); got != c.want {
			t.Errorf("%v %v\n got %s\nwant %s", c.profiles, c.paths, got, c.want)
		}
		if last.Name != "unmapped" || last.Nullable || last.Type.ID() != arrow.MAP {
			t.Errorf("last column: %s", last)
		}
	}
}

// describe writes fields shortly, ? for what may be null.
func describe(fields []arrow.Field) string {
	var out []string
	for _, f := range fields {
		text := f.Name + ": " + describeType(f)
		if f.Nullable {
			text += "?"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func describeType(f arrow.Field) string {
	switch typ := f.Type.(type) {
	case *arrow.StructType:
		return "struct<" + describe(typ.Fields()) + ">"
	case *arrow.ListType:
		if typ.ElemField().Nullable {
			return "list of nulls"
		}
		return "list<" + describeType(typ.ElemField()) + ">"
	}
	if f.Metadata.FindKey("tidemark.json") >= 0 {
		return "json"
	}
	return f.Type.String()
}

func TestColumnsProblems(t *testing.T) {
	_, err := smallColumns(t, []string{"q"}, "tim", "box.nme", "box.name.x", "time_dt", "shell", "", "unmapped.a", "open.x", "words[0]", strings.Repeat("box.", 40)+"name")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`profile "q": OCSF 2.0.0 has none of this name; the nearest is "p"`,
		`path "tim": thing has no attribute "tim"; the nearest is "time"`,
		`path "box.nme": box has no attribute "nme"; the nearest is "name"`,
		`path "box.name.x": "name" has no attributes below it: end the path there`,
		`path "time_dt": thing has "time_dt" only with a profile: add one of datetime`,
		`path "shell": shell has objects only: name a path below it: box`,
		`path "": thing has no attribute ""`,
		`path "unmapped.a": thing has no attribute "unmapped"`,
		`path "open.x": "open" has no attributes below it: end the path there`,
		`path "words[0]": thing has no attribute "words[0]"; the nearest is "words"`,
		`nested deeper than 24`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("does not say %s\n%v", want, err)
		}
	}
	s := builtIn(t)[ocsf.V130]
	_, err = ocsf.NewColumns(s, ocsf.ColumnsConfig{Class: 50011})
	if want := "class 50011: OCSF 1.3.0 has none of this uid; the nearest is 5001 (inventory_info)"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v\nwant %s", err, want)
	}
}

// What a column cannot hold, and what has no column, is text in unmapped.
func TestColumnsUnmapped(t *testing.T) {
	c, err := smallColumns(t, []string{"datetime"}, "i", "l", "f", "s", "yes", "j", "time", "time_dt", "type_uid", "ints", "words", "js", "open", "box.name", "boxes.name", "boxes.box.name")
	if err != nil {
		t.Fatal(err)
	}
	for event, want := range map[string]string{
		``:                            ``,
		`"i":2147483647`:              `"i":2147483647`,
		`"i":-2147483648`:             `"i":-2147483648`,
		`"i":2147483648`:              `"unmapped":{"i":"2147483648"}`,
		`"i":-0`:                      `"i":0`,
		`"i":3.0`:                     `"unmapped":{"i":"3.0"}`,
		`"i":"3"`:                     `"unmapped":{"i":"3"}`,
		`"i":true`:                    `"unmapped":{"i":"true"}`,
		`"i":[1, {"a" :2}]`:           `"unmapped":{"i":"[1,{\"a\":2}]"}`,
		`"i":{"a":{"b":1},"c":{}}`:    `"unmapped":{"i.a.b":"1"}`,
		`"i":null`:                    ``,
		`"type_uid":9880500102`:       `"type_uid":9880500102`,
		`"l":9007199254740993`:        `"l":9007199254740993`,
		`"l":9223372036854775807`:     `"l":9223372036854775807`,
		`"l":9223372036854775808`:     `"unmapped":{"l":"9223372036854775808"}`,
		`"l":1e3`:                     `"unmapped":{"l":"1e3"}`,
		`"time":-1`:                   `"time":-1`,
		`"f":24`:                      `"f":24.0`,
		`"f":-0.0`:                    `"f":-0.0`,
		`"f":1e300`:                   `"f":1e+300`,
		`"f":0e9`:                     `"f":0.0`,
		`"f":1e400`:                   `"unmapped":{"f":"1e400"}`,
		`"f":1E-400`:                  `"unmapped":{"f":"1E-400"}`,
		`"f":9007199254740991`:        `"f":9007199254740991.0`,
		`"f":9007199254740993`:        `"unmapped":{"f":"9007199254740993"}`,
		`"f":"1.0"`:                   `"unmapped":{"f":"1.0"}`,
		`"s":""`:                      `"s":""`,
		`"s":"\u0041\ud83d\ude00\/"`:  `"s":"A😀/"`,
		`"s":1`:                       `"unmapped":{"s":"1"}`,
		`"s":"a","s":"b"`:             `"s":"b","unmapped":{"s":"a"}`,
		`"s":"a","s":null`:            `"unmapped":{"s":"a"}`,
		`"yes":true`:                  `"yes":true`,
		`"yes":"true"`:                `"unmapped":{"yes":"true"}`,
		`"j":{ "a" : [ 1.50 , null]}`: `"j":{"a":[1.50,null]}`,
		`"j":"x"`:                     `"j":"x"`,
		`"open":{"a":1}`:              `"open":{"a":1}`,
		`"time_dt":"2023-10-04T09:30:00.5+02:00"`: `"time_dt":"2023-10-04T07:30:00.5Z"`,
		`"time_dt":"2023-10-04T07:30:00.123456Z"`: `"unmapped":{"time_dt":"2023-10-04T07:30:00.123456Z"}`,
		`"time_dt":"yesterday"`:                   `"unmapped":{"time_dt":"yesterday"}`,
		`"time_dt":0`:                             `"unmapped":{"time_dt":"0"}`,
		`"ints":[]`:                               `"ints":[]`,
		`"ints":[1,-2]`:                           `"ints":[1,-2]`,
		`"ints":[1,2147483648]`:                   `"unmapped":{"ints":"[1,2147483648]"}`,
		`"ints":[1,null]`:                         `"unmapped":{"ints":"[1,null]"}`,
		`"ints":1`:                                `"unmapped":{"ints":"1"}`,
		`"js":[null,1,"a"]`:                       `"js":[null,1,"a"]`,
		`"words":["a","\n"]`:                      `"words":["a","\u000a"]`,
		`"box":{}`:                                ``,
		`"box":{"id":7}`:                          `"box":{"id":7}`,
		`"box":{"id":7,"box":{"id":8}}`:           `"box":{"id":7},"unmapped":{"box.box.id":"8"}`,
		`"box":{"color":"red"}`:                   `"unmapped":{"box.color":"red"}`,
		`"box":[{"id":7}]`:                        `"unmapped":{"box":"[{\"id\":7}]"}`,
		`"boxes":{"id":7}`:                        `"unmapped":{"boxes.id":"7"}`,
		`"boxes":[{"id":7,"x":{"y":1}},{"id":8,"box":{"id":1,"name":"n"}}]`: `"boxes":[{"id":7},{"id":8,"box":{"id":1,"name":"n"}}],"unmapped":{"boxes[0].x.y":"1"}`,
		`"boxes":[{"id":7,"x":1},{"x":2},null]`:                             `"unmapped":{"boxes":"[{\"id\":7,\"x\":1},{\"x\":2},null]"}`,
		`"unmapped":{}`:                                                     ``,
		`"unmapped":{"b":{"c":true},"a":"x","n":null,"l":[1, "2"]}`:         `"unmapped":{"a":"x","b.c":"true","l":"[1,\"2\"]"}`,
		`"unmapped":"text"`:                                                 `"unmapped":{"unmapped":"text"}`,
		`"unmapped":{"i":"x"},"i":1e9`:                                      `"unmapped":{"i":"[\"x\",1e9]"}`,
		`"unmapped":{"a.b":1,"a":{"b":"2"}}`:                                `"unmapped":{"a.b":"[1,\"2\"]"}`,
		`"what":"\u0022","\u0061":false,"where":null`:                       `"unmapped":{"a":"false","what":"\""}`,
	} {
		event = strings.TrimRight(`{"class_uid":1,"bag":{"b":"x"},`+event, ",") + "}"
		want = strings.TrimRight(`{"class_uid":1,"bag":{"b":"x"},`+want, ",") + "}"
		if err := c.Append([]byte(event)); err != nil {
			t.Errorf("%s: %v", event, err)
			continue
		}
		if got := rows(t, c)[0]; !sameText(t, got, want) {
			t.Errorf("%s\n got %s\nwant %s", event, got, want)
		}
	}
}

// sameText compares members, whose numbers must be written alike.
func sameText(t testing.TB, a, b string) bool {
	t.Helper()
	return string(encode(t, tree(t, []byte(a)))) == string(encode(t, tree(t, []byte(b))))
}

// An event that is refused leaves nothing behind, in whatever column it ended.
func TestColumnsRefuse(t *testing.T) {
	paths := []string{"i", "f", "s", "yes", "ints", "js", "box.name", "box.box.name", "boxes.name", "boxes.boxes.name"}
	c, err := smallColumns(t, nil, paths...)
	if err != nil {
		t.Fatal(err)
	}
	good := []string{
		`{"class_uid":1,"bag":{"b":"x"},"i":1,"s":"one","yes":true,"ints":[1,2],"boxes":[{"id":1,"boxes":[{"id":2}]}],"a":"x"}`,
		`{"class_uid":1,"bag":{"b":"y"},"box":{"id":3,"name":"n"},"boxes":[],"js":[1]}`,
	}
	var want []string
	for _, g := range good {
		if err := c.Append([]byte(g)); err != nil {
			t.Fatal(err)
		}
		want = append(want, rows(t, c)...)
	}
	bad := map[string]string{
		`[]`:                             `not a JSON object`,
		`{"class_uid":1,"bag":{"b":"x"}`: `not a JSON object`,
		`{"bag":{"b":"x"}}`:              `class_uid: want 1`,
		`{"class_uid":"1","bag":{}}`:     `class_uid: want 1`,
		`{"class_uid":2,"bag":{}}`:       `class_uid: is 2, want 1 (thing)`,
		`{"class_uid":1.0,"bag":{}}`:     `class_uid: is 1.0, want 1 (thing)`,
		`{"class_uid":1,"i":7,"s":"seven","yes":false,"ints":[7],"x":1}`:                   `bag: required`,
		`{"class_uid":1,"s":"seven","bag":[]}`:                                             `bag: required`,
		`{"class_uid":1,"bag":{"b":"x"},"box":{"name":"seven"}}`:                           `box.id: required`,
		`{"class_uid":1,"bag":{"b":"x"},"box":{"id":1,"box":{"id":"x","name":"n"}}}`:       `box.box.id: required`,
		`{"class_uid":1,"bag":{"b":"x"},"boxes":[{"id":7,"boxes":[{"id":8},{}]}],"s":"x"}`: `boxes[0].boxes[1].id: required`,
	}
	for event, why := range bad {
		before := c.Len()
		for range 9 { // over the edge of a byte of bits
			err := c.Append([]byte(event))
			if err == nil || !strings.Contains(err.Error(), why) || !errors.Is(err, ocsf.ErrNotJSON) && !errors.Is(err, ocsf.ErrNotOfColumns) || c.Len() != before {
				t.Fatalf("%s\n%v, %d rows\nwant %s", event, err, c.Len(), why)
			}
			for _, g := range good {
				if err := c.Append([]byte(g)); err != nil {
					t.Fatal(err)
				}
			}
			before = c.Len()
		}
	}
	got := rows(t, c)
	if len(got) != 2*9*len(bad) {
		t.Fatalf("%d rows, want %d", len(got), 2*9*len(bad))
	}
	for i, g := range got {
		if g != want[i%2] {
			t.Fatalf("row %d\n got %s\nwant %s", i, g, want[i%2])
		}
	}
}

// A batch that was returned stays what it is while the next one is filled.
func TestColumnsBatchesAreApart(t *testing.T) {
	s := builtIn(t)[ocsf.V130]
	raw, err := os.ReadFile(filepath.Join("testdata", "samples", "ble_window.core.1.3.0.json"))
	if err != nil {
		t.Fatal(err)
	}
	c := columns(t, s, configOf(t, raw))
	other := []byte(strings.ReplaceAll(string(raw), "RC-0003811", "RC-0000000"))
	for range 100 {
		if err := c.Append(raw); err != nil {
			t.Fatal(err)
		}
	}
	rec := c.NewRecordBatch()
	defer rec.Release()
	before := string(ocsf.AppendEvent(nil, rec, 99))
	for range 100 {
		if err := c.Append(other); err != nil {
			t.Fatal(err)
		}
	}
	c.Reset()
	if c.Len() != 0 {
		t.Errorf("%d rows after Reset", c.Len())
	}
	if after := string(ocsf.AppendEvent(nil, rec, 99)); after != before || !strings.Contains(after, "RC-0003811") {
		t.Errorf("%s\nbecame\n%s", before, after)
	}
}

func FuzzColumns(f *testing.F) {
	s := builtIn(f)[ocsf.V130]
	raw, err := os.ReadFile(filepath.Join("testdata", "samples", "ble_window.core.1.3.0.json"))
	if err != nil {
		f.Fatal(err)
	}
	small, err := smallColumns(f, []string{"datetime"}, "i", "l", "f", "s", "yes", "j", "time_dt", "ints", "words", "js", "open", "box.name", "boxes.name", "boxes.boxes.name")
	if err != nil {
		f.Fatal(err)
	}
	good := map[*ocsf.Columns][]byte{
		columns(f, s, configOf(f, raw)): raw,
		small:                           []byte(`{"class_uid":1,"bag":{"b":"x"},"boxes":[{"id":1,"name":"x"}],"ints":[1],"unmapped":{"a":{"b":1}}}`),
	}
	for _, event := range good {
		f.Add(event)
	}
	f.Add([]byte(`{"class_uid":1,"bag":{},"f":-0,"boxes":[{"id":1,"boxes":[{"id":2},{"id":"x"}]},null],"a":{"b":1},"a.b":2}`))
	f.Fuzz(func(t *testing.T, event []byte) {
		for c, good := range good {
			if err := c.Append(good); err != nil {
				t.Fatal(err)
			}
			n := 2
			if err := c.Append(event); err == nil {
				n++
			}
			if err := c.Append(good); err != nil {
				t.Fatal(err)
			}
			got := rows(t, c)
			if len(got) != n || got[0] != got[n-1] {
				t.Fatalf("%d rows, want %d, from %s to %s", len(got), n, got[0], got[n-1])
			}
			if n == 2 {
				continue
			}
			if err := c.Append([]byte(got[1])); err != nil {
				t.Fatalf("%s: %v", got[1], err)
			}
			if again := rows(t, c)[0]; again != got[1] {
				t.Fatalf("%s\nthe second time\n%s", got[1], again)
			}
		}
	})
}

func BenchmarkColumns(b *testing.B) {
	s := builtIn(b)[ocsf.V130]
	for _, name := range []string{"ble_window", "traffic_window"} {
		raw, err := os.ReadFile(filepath.Join("testdata", "samples", name+".core.1.3.0.json"))
		if err != nil {
			b.Fatal(err)
		}
		c := columns(b, s, configOf(b, raw))
		fill := func(b *testing.B) arrow.RecordBatch {
			for range 1024 {
				if err := c.Append(raw); err != nil {
					b.Fatal(err)
				}
			}
			return c.NewRecordBatch()
		}
		b.Run(name+"/append", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				fill(b).Release()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/event")
		})
		b.Run(name+"/json", func(b *testing.B) {
			rec := fill(b)
			defer rec.Release()
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				for i := range 1024 {
					dst = ocsf.AppendEvent(dst[:0], rec, i)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/event")
		})
	}
}
