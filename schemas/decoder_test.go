package schemas

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// sampleFields has a field of every type, nested objects, arrays and a name longer than
// the 16 bytes that are compared at once.
func sampleFields() []Field {
	return []Field{
		{Name: "id", Type: String, Path: "$.tag.id", Required: true},
		{Name: "ts", Type: Time, Unit: Millis, Path: "$.ts"},
		{Name: "temp", Type: Int64, Scale: 2, Path: "$.temp_c"},
		{Name: "lat", Type: Float64, Path: "$.gps.lat"},
		{Name: "lon", Type: Float64, Path: "$.gps.lon"},
		{Name: "x", Type: Int64, Path: "$.accel[0]"},
		{Name: "z", Type: Int64, Path: "$.accel[2]"},
		{Name: "on", Type: Bool, Path: "$.on"},
		{Name: "at", Type: Time, Unit: RFC3339, Path: "$.at"},
		{Name: "note", Type: String, Path: "$.a_name_of_more_than_16_bytes"},
		{Name: "deep", Type: String, Path: "$.list[1].m['dotted.name'][0]"},
	}
}

func newTestDecoder(t testing.TB, fields []Field) *Decoder {
	t.Helper()
	d, err := NewDecoder(fields, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// row renders row i as name=value pairs without the nulls.
func row(d *Decoder, cols []arrow.Array, i int) string {
	var out []string
	for c, col := range cols {
		if col.IsNull(i) {
			continue
		}
		v := col.ValueStr(i)
		if ts, ok := col.(*array.Timestamp); ok {
			v = fmt.Sprint(int64(ts.Value(i)))
		}
		out = append(out, d.fields[c].Name+"="+v)
	}
	return strings.Join(out, " ")
}

func TestAppend(t *testing.T) {
	const id = `"tag":{"id":"a"}`
	cases := []struct{ name, in, want string }{
		{"every field", `{"tag":{"id":"a"},"ts":1700000000123,"temp_c":21.5,"gps":{"lat":52.25,"lon":-0.5},"accel":[1,2,-3],"on":true,"at":"2023-11-14T22:13:20.5Z","a_name_of_more_than_16_bytes":"n","list":[0,{"m":{"dotted.name":["d"]}}]}`,
			"id=a ts=1700000000123000 temp=2150 lat=52.25 lon=-0.5 x=1 z=-3 on=true at=1700000000500000 note=n deep=d"},
		{"any order, blanks", " {\n\"on\" : false ,\t\"accel\" : [ 7 , 8 ] , \"temp_c\" : -0.005 , \"tag\" : { \"x\" : 1 , \"id\" : \"b\" } } \r\n", "id=b temp=0 x=7 on=false"},
		{"nulls", `{"ts":null,"gps":null,"accel":[null,1,2],"list":null,"temp_c":null,"on":null,"at":null,` + id + `}`, "id=a z=2"},
		{"unknown parts", `{"u":{"tag":{"id":5},"s":"\u00e9\n","a":[[],{},[{"k":[1e5,-0.1,true,false,null]}]]},"tagg":1,"ta":2,"":3,` + id + `}`, "id=a"},
		{"escaped name and value", `{"t\u0061g":{"\u0069d":"\ud83d\ude00\"\\\/\b\f\n\r\t\u20ac"}}`, "id=😀\"\\/\b\f\n\r\t€"},
		{"UTF-8", `{"tag":{"id":"grüße, 東京"}}`, "id=grüße, 東京"},
		{"long name, near miss", `{"a_name_of_more_than_16_bytez":"no","a_name_of_more_than_16_bytes":"yes",` + id + `}`, "id=a note=yes"},
		{"quoted time", `{"ts":"1700000000123.4567",` + id + `}`, "id=a ts=1700000000123456"},
		{"time with an exponent", `{"ts":1.7e12,` + id + `}`, "id=a ts=1700000000000000"},
		{"negative time is cut downwards", `{"ts":-0.0001,` + id + `}`, "id=a ts=-1"},
		{"offset", `{"at":"2023-11-15T00:13:20.0000019+02:00",` + id + `}`, "id=a at=1700000000000001"},
		{"empty objects", `{"gps":{},"accel":[],"list":[],` + id + `}`, "id=a"},
		{"empty string", `{"tag":{"id":""}}`, "id="},
		{"half to even", `{"temp_c":0.125,` + id + `}`, "id=a temp=12"},
		{"half to even, up", `{"temp_c":0.135,` + id + `}`, "id=a temp=14"},
		{"just above the half", `{"temp_c":0.12500000000000000000000000000000000001,` + id + `}`, "id=a temp=13"},
		{"exponent", `{"temp_c":1.5e3,"accel":[1E+2],` + id + `}`, "id=a temp=150000 x=100"},
		{"tiny", `{"temp_c":1e-999999999999,` + id + `}`, "id=a temp=0"},
		{"largest", `{"accel":[9223372036854775807,0,-9223372036854775808],` + id + `}`, "id=a x=9223372036854775807 z=-9223372036854775808"},
		{"float below the smallest", `{"gps":{"lat":1e-400,"lon":-0.0},` + id + `}`, "id=a lat=0 lon=-0"},
		{"unknown numbers may be huge", `{"u":1e999,` + id + `}`, "id=a"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := newTestDecoder(t, sampleFields())
			// Twice: the second time the order of the names is known.
			for range 2 {
				if err := d.Append([]byte(c.in)); err != nil {
					t.Fatal(err)
				}
			}
			cols := d.Columns()
			defer release(cols)
			for i := range 2 {
				if got := row(d, cols, i); got != c.want {
					t.Errorf("row %d\n got %s\nwant %s", i, got, c.want)
				}
			}
		})
	}
}

func release(cols []arrow.Array) {
	for _, c := range cols {
		c.Release()
	}
}

func TestAppendRefuses(t *testing.T) {
	const id = `"tag":{"id":"a"}`
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	cases := []struct{ name, in, reason, detail string }{
		{"nothing", ``, ReasonEmpty, "0 bytes"},
		{"blanks", " \n", ReasonEmpty, "2 bytes"},
		{"array", `[1]`, ReasonNotObject, "an array at byte 0"},
		{"null", `null`, ReasonNotObject, "null"},
		{"BOM", "\ufeff{}", ReasonNotObject, "byte 0xef"},
		{"cut off", `{"tag":{"id":"a"}`, ReasonMalformed, "no end"},
		{"cut off in a string", `{"tag":{"id":"a`, ReasonMalformed, "no end"},
		{"cut off behind a backslash", `{"tag":{"id":"a\`, ReasonMalformed, "no end"},
		{"trailing text", `{` + id + `}x`, ReasonMalformed, "behind the object"},
		{"trailing object", `{` + id + `}{}`, ReasonMalformed, "behind the object"},
		{"trailing comma", `{` + id + `,}`, ReasonMalformed, "a name"},
		{"no colon", `{"tag" 1}`, ReasonMalformed, "colon"},
		{"single quotes", `{'tag':1}`, ReasonMalformed, "a name"},
		{"leading zero", `{"temp_c":01,` + id + `}`, ReasonMalformed, "temp ($.temp_c) at byte 10"},
		{"leading plus", `{"temp_c":+1,` + id + `}`, ReasonMalformed, ""},
		{"bare point", `{"temp_c":1.,` + id + `}`, ReasonMalformed, ""},
		{"no exponent", `{"temp_c":1e,` + id + `}`, ReasonMalformed, ""},
		{"hexadecimal", `{"temp_c":0x10,` + id + `}`, ReasonMalformed, ""},
		{"control character", "{\"tag\":{\"id\":\"a\nb\"}}", ReasonMalformed, "control"},
		{"bad escape", `{"tag":{"id":"\x41"}}`, ReasonMalformed, "escape"},
		{"bad escape in a skipped name", `{"u":{"\q":1},` + id + `}`, ReasonMalformed, "escape"},
		{"short hex", `{"tag":{"id":"\u12"}}`, ReasonMalformed, "escape"},
		{"wrong literal", `{"on":truf,` + id + `}`, ReasonMalformed, ""},
		{"literal with a tail", `{"on":trues,` + id + `}`, ReasonMalformed, ""},
		{"high half", `{"tag":{"id":"\ud83d"}}`, ReasonInvalidUTF8, "half a surrogate"},
		{"low half", `{"tag":{"id":"\ude00\ud83d"}}`, ReasonInvalidUTF8, "half a surrogate"},
		{"two high halves", `{"tag":{"id":"\ud83d\ud83d"}}`, ReasonInvalidUTF8, "half a surrogate"},
		{"half in a skipped part", `{"u":["\ud83d"],` + id + `}`, ReasonInvalidUTF8, ""},
		{"not UTF-8", "{\"tag\":{\"id\":\"\xff\"}}", ReasonInvalidUTF8, "id ($.tag.id)"},
		{"not UTF-8 in a skipped part", "{\"u\":\"1234567\xc3\"," + id + "}", ReasonInvalidUTF8, ""},
		{"not UTF-8 in a name", "{\"\xc3u\":1," + id + "}", ReasonInvalidUTF8, ""},
		{"number for a string", `{"tag":{"id":5}}`, ReasonWrongType, "id ($.tag.id) at byte 13: a number where a string is wanted"},
		{"string for a number", `{"temp_c":"21.5",` + id + `}`, ReasonWrongType, "a string where a number"},
		{"boolean for a number", `{"gps":{"lat":true},` + id + `}`, ReasonWrongType, "a boolean where a number"},
		{"number for a boolean", `{"on":1,` + id + `}`, ReasonWrongType, "true or false"},
		{"number for RFC 3339", `{"at":17,` + id + `}`, ReasonWrongType, "RFC 3339"},
		{"array for an object", `{"gps":[1],` + id + `}`, ReasonWrongType, "$.gps at byte 7: an array where an object"},
		{"object for an array", `{"accel":{"0":1},` + id + `}`, ReasonWrongType, "$.accel"},
		{"object for a value", `{"tag":{"id":{}}}`, ReasonWrongType, "an object where a string"},
		{"required is null", `{"tag":{"id":null}}`, ReasonMissingField, "id ($.tag.id)"},
		{"required is absent", `{"tag":{}}`, ReasonMissingField, "id ($.tag.id)"},
		{"required parent is absent", `{}`, ReasonMissingField, "id ($.tag.id)"},
		{"twice", `{"ts":1,"ts":1,` + id + `}`, ReasonDuplicateKey, "ts ($.ts)"},
		{"twice, one null", `{"ts":null,"ts":1,` + id + `}`, ReasonDuplicateKey, "ts ($.ts)"},
		{"twice, one escaped", `{"ts":1,"t\u0073":1,` + id + `}`, ReasonDuplicateKey, "ts ($.ts)"},
		{"parent twice", `{` + id + `,"tag":{"x":1}}`, ReasonDuplicateKey, "$.tag"},
		{"array twice", `{"accel":[],"accel":[],` + id + `}`, ReasonDuplicateKey, "$.accel"},
		{"too deep", `{"u":` + deep(32) + `,` + id + `}`, ReasonTooDeep, "deeper than 32"},
		{"too many names", `{` + strings.Repeat(`"u":1,`, 1023) + id + `}`, ReasonTooManyKeys, "more than 1024"},
		{"long string", `{"tag":{"id":"` + strings.Repeat("a", 64<<10+1) + `"}}`, ReasonStringTooLong, "longer than 65536"},
		{"int overflow", `{"accel":[9223372036854775808],` + id + `}`, ReasonOutOfRange, "x ($.accel[0])"},
		{"overflow by scale", `{"temp_c":92233720368547758.08,` + id + `}`, ReasonOutOfRange, "scale 2"},
		{"overflow by exponent", `{"temp_c":1e400,` + id + `}`, ReasonOutOfRange, ""},
		{"float beyond", `{"gps":{"lat":1e309},` + id + `}`, ReasonNotFinite, "lat"},
		{"NaN", `{"gps":{"lat":NaN},` + id + `}`, ReasonNotFinite, "lat"},
		{"skipped infinity", `{"u":-Infinity,` + id + `}`, ReasonNotFinite, ""},
		{"not a time", `{"ts":"yesterday",` + id + `}`, ReasonBadTime, "number of ms"},
		{"empty time", `{"ts":"",` + id + `}`, ReasonBadTime, ""},
		{"RFC 3339 for a number", `{"ts":"2023-11-14T22:13:20Z",` + id + `}`, ReasonBadTime, ""},
		{"30 February", `{"at":"2023-02-30T00:00:00Z",` + id + `}`, ReasonBadTime, "RFC 3339"},
		{"no zone", `{"at":"2023-02-20T00:00:00",` + id + `}`, ReasonBadTime, ""},
		{"nanoseconds as milliseconds", `{"ts":1700000000123456789,` + id + `}`, ReasonTimeRange, "in ms"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := newTestDecoder(t, sampleFields())
			good := []byte(`{"ts":1,"on":true,"tag":{"id":"good"}}`)
			if err := d.Append(good); err != nil {
				t.Fatal(err)
			}
			err := d.Append([]byte(c.in))
			var r *Refusal
			if !errors.As(err, &r) {
				t.Fatalf("got %v, want a refusal", err)
			}
			if r.Reason != c.reason || !strings.Contains(r.Detail, c.detail) {
				t.Errorf("got %v\nwant %s: ...%s...", r, c.reason, c.detail)
			}
			if d.Len() != 1 {
				t.Errorf("%d rows after a refusal, want 1", d.Len())
			}
			if err := d.Append(good); err != nil {
				t.Fatal(err)
			}
			cols := d.Columns()
			defer release(cols)
			for i := range 2 {
				if got := row(d, cols, i); got != "id=good ts=1000 on=true" {
					t.Errorf("row %d is %s", i, got)
				}
			}
		})
	}
}

func TestLimitsAreInclusive(t *testing.T) {
	const id = `"tag":{"id":"a"}`
	for name, in := range map[string]string{
		"depth":          `{"u":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `,` + id + `}`,
		"keys":           `{` + strings.Repeat(`"u":1,`, 1022) + id + `}`,
		"string":         `{"tag":{"id":"` + strings.Repeat("a", 64<<10) + `"}}`,
		"skipped string": `{"u":"` + strings.Repeat("a", 128<<10) + `",` + id + `}`,
	} {
		if err := newTestDecoder(t, sampleFields()).Append([]byte(in)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Batches share no memory, and a batch may grow past the room that it was given.
func TestColumnsAcrossBatches(t *testing.T) {
	d := newTestDecoder(t, []Field{
		{Name: "s", Type: String, Path: "$.s"},
		{Name: "i", Type: Int64, Path: "$.i"},
		{Name: "b", Type: Bool, Path: "$.b"},
		{Name: "f", Type: Float64, Path: "$.f", Required: true},
	})
	sizes := []int{3, 0, firstRows + 77, 1, 200}
	var kept [][]arrow.Array
	for batch, n := range sizes {
		for i := range n {
			in := fmt.Sprintf(`{"s":"%d/%d","i":%d,"b":%v,"f":%d.5}`, batch, i, i, i%3 == 0, i)
			if i%5 == 4 {
				in = fmt.Sprintf(`{"f":%d.5}`, i)
			}
			if err := d.Append([]byte(in)); err != nil {
				t.Fatal(err)
			}
			if i%7 == 0 && d.Append([]byte(`{"s":"refused","i":9,"b":true,"f":"x"}`)) == nil {
				t.Fatal("a wrong type was taken")
			}
		}
		kept = append(kept, d.Columns())
	}
	for batch, cols := range kept {
		for c, col := range cols {
			if col.Len() != sizes[batch] {
				t.Fatalf("batch %d column %d has %d rows, want %d", batch, c, col.Len(), sizes[batch])
			}
			if nulls := sizes[batch] / 5; c < 3 && col.NullN() != nulls || c == 3 && col.NullN() != 0 {
				t.Errorf("batch %d column %d has %d nulls", batch, c, col.NullN())
			}
			if col.NullN() == 0 && col.Data().Buffers()[0] != nil {
				t.Errorf("batch %d column %d has a validity bitmap without nulls", batch, c)
			}
		}
		for i := range sizes[batch] {
			want := fmt.Sprintf("s=%d/%d i=%d b=%v f=%d.5", batch, i, i, i%3 == 0, i)
			if i%5 == 4 {
				want = fmt.Sprintf("f=%d.5", i)
			}
			if got := row(d, cols, i); got != want {
				t.Fatalf("batch %d row %d: got %s, want %s", batch, i, got, want)
			}
		}
		release(cols)
	}
}

// A producer that sends ever new names cannot make the decoder grow.
func TestLearnedNamesAreBounded(t *testing.T) {
	d := newTestDecoder(t, sampleFields())
	for i := range 1000 {
		in := fmt.Sprintf(`{"name%d":1,"%s%d":2,"tag":{"id":"a","u%d":1,"v":2}}`, i, strings.Repeat("long", 40), i, i)
		if err := d.Append([]byte(in)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(d.root.keys); n > d.root.known+maxLearned {
		t.Errorf("%d keys are kept", n)
	}
}

func TestNewDecoderRefuses(t *testing.T) {
	ok := Field{Name: "ok", Type: String, Path: "$.ok"}
	cases := []struct {
		fields []Field
		want   []string
	}{
		{nil, []string{"no fields"}},
		{[]Field{ok, ok}, []string{`field "ok": the name is used twice`, "$.ok is read by another field"}},
		{[]Field{{Name: "a", Type: Time, Path: "$.a"}, {Name: "", Type: Int64, Scale: 19, Unit: "ms", Path: "a"}},
			[]string{"a time needs a unit", "a name is needed", "scale 19", "only time has a unit", "does not begin with $"}},
		{[]Field{ok, {Name: "b", Type: String, Path: "$.ok.b"}}, []string{"$.ok is a value for one field and holds values for another"}},
		{[]Field{{Name: "b", Type: String, Path: "$.ok.b"}, ok}, []string{"$.ok is a value for one field"}},
		{[]Field{{Name: "b", Type: String, Path: "$.x.b"}, {Name: "c", Type: String, Path: "$.x[0]"}}, []string{"$.x is an array for one field and an object"}},
		{[]Field{{Name: "b", Type: String, Path: "$[0]"}}, []string{"the first step is a name"}},
		{[]Field{{Name: "b", Type: String, Path: "$.a[1024]"}}, []string{"0 to 1023"}},
		{[]Field{{Name: "b", Type: String, Path: "$.a..b"}}, []string{"a name is missing"}},
		{[]Field{{Name: "b", Type: String, Path: `$.a"b`}}, []string{"quotes"}},
		{[]Field{{Name: "b", Type: String, Path: `$`}}, []string{"names nothing"}},
		{[]Field{{Name: "b", Type: Float64, Scale: 2, Path: `$.b`}}, []string{"only int64 has a scale"}},
	}
	for _, c := range cases {
		_, err := NewDecoder(c.fields, DefaultLimits())
		if err == nil {
			t.Errorf("%v: no error", c.fields)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v\n got %v\nwant %s", c.fields, err, want)
			}
		}
	}
	if _, err := NewDecoder([]Field{ok}, Limits{}); err == nil || strings.Count(err.Error(), "limit ") != 3 {
		t.Errorf("limits of zero: %v", err)
	}
}

func TestOverride(t *testing.T) {
	got, err := Override(sampleFields(), map[string]FieldMap{"id": {Path: "$.mac"}, "ts": {Path: "$.t", Unit: Seconds}})
	if err != nil {
		t.Fatal(err)
	}
	d := newTestDecoder(t, got)
	if err := d.Append([]byte(`{"mac":"m","t":1.5}`)); err != nil {
		t.Fatal(err)
	}
	cols := d.Columns()
	defer release(cols)
	if got := row(d, cols, 0); got != "id=m ts=1500000" {
		t.Error(got)
	}
	_, err = Override(sampleFields(), map[string]FieldMap{"tmp": {Path: "$.x"}, "ts": {Unit: "min"}, "on": {Path: "on"}})
	for _, want := range []string{`field "tmp" is not one of this feed; the nearest is "temp"`, `unit "min"`, `path "on"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	if sampleFields()[1].Unit != Millis {
		t.Error("the argument was changed")
	}
}

func TestArrowFields(t *testing.T) {
	d := newTestDecoder(t, sampleFields())
	f := d.Fields()
	if f[0].Nullable || !f[1].Nullable {
		t.Error("only required fields are not nullable")
	}
	if v, _ := f[2].Metadata.GetValue(ScaleKey); v != "2" {
		t.Errorf("scale %q", v)
	}
	if f[5].HasMetadata() {
		t.Error("scale 0 needs no metadata")
	}
}
