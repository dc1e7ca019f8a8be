package ocsf_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// anyVersion has the validators of all built-in versions, with all their findings.
func anyVersion(t testing.TB) []*ocsf.Validator {
	t.Helper()
	var out []*ocsf.Validator
	for _, s := range builtIn(t) {
		v := s.Validator()
		v.Recommended = true
		out = append(out, v)
	}
	return out
}

// sameReport compares what is known of the event that a Conformer has just made with a parse of
// it: the tree, node by node, and the reports of the validators.
func sameReport(t testing.TB, c *ocsf.Conformer, event []byte, all []*ocsf.Validator) {
	t.Helper()
	if had, err := ocsf.SameTree(c, event); err != nil || !had {
		t.Fatalf("tree: %v %v\n%s", had, err, event)
	}
	for _, v := range all {
		want, err := v.Validate(event)
		if err != nil {
			t.Fatal(err)
		}
		wanted := fmt.Sprintf("%+v", want) // the next call takes the memory
		got, err := v.ValidateConformed(c)
		if err != nil || fmt.Sprintf("%+v", got) != wanted {
			t.Fatalf("%v\n got %+v\nwant %s\n%s", err, got, wanted, event)
		}
	}
}

// TestSameTreeNotices is the negative control of sameReport: a tree that differs in any part of
// a node from a parse is noticed.
func TestSameTreeNotices(t *testing.T) {
	s := builtIn(t)[ocsf.V130]
	c := conformer(t, s, ocsf.ConformConfig{Product: ocsf.Product{Name: "p", Vendor: "v"}})
	event, _, err := c.Conform(nil, 1007, []byte(`{"time":5,"device":{"type_id":1,"hostname":"h"},"process":{"pid":7,"name":"x"},"actor":{"user":{"uid":"1"}},"x":"\n"}`), noOrigin())
	if err != nil {
		t.Fatal(err)
	}
	sameReport(t, c, event, anyVersion(t))
	for _, change := range [][2]string{
		{`"hostname":"h"`, `"hostname" :"h"`}, {`"hostname":"h"`, `"hostname":"hh"`}, {`"pid":7`, `"pid":17`}, {`"pid":7`, `"pid":[]`}, {`"x":"\n"`, `"x":"nn"`},
		{`"hostname":"h"`, `"\u0068ost":"h"`}, {`"pid":7,`, `"pid":7.`}, {`"name":"x"}`, `"name":{}}`},
	} {
		other := strings.Replace(string(event), change[0], change[1], 1)
		if other == string(event) {
			t.Fatalf("%s is not in %s", change[0], event)
		}
		if _, err := ocsf.SameTree(c, []byte(other)); err == nil {
			t.Errorf("%s is not noticed", change[1])
		}
	}
	if event, _, err = c.Conform(nil, 1007, event, noOrigin()); err != nil {
		t.Fatal(err)
	}
	sameReport(t, c, event, nil)
	ocsf.Misattribute(c)
	if _, err := ocsf.SameTree(c, event); err == nil {
		t.Error("another attribute is not noticed")
	}
}

// TestValidateConformed: what a Conformer cannot vouch for is parsed, and an event that it did
// not make is none.
func TestValidateConformed(t *testing.T) {
	s := builtIn(t)[ocsf.V130]
	c, v := conformer(t, s, ocsf.ConformConfig{Product: ocsf.Product{Name: "p", Vendor: "v"}}), s.Validator()
	if _, err := v.ValidateConformed(c); !errors.Is(err, ocsf.ErrNotJSON) {
		t.Errorf("before the first event: %v", err)
	}
	const record = `{"class_uid":4001,"activity_id":1,"severity_id":1,"time":5,"dst_endpoint":{"ip":"192.0.2.1"}%s}`
	deep := strings.Repeat("[", 126) + strings.Repeat("]", 126)
	for _, k := range []struct {
		more   string
		at     func(*ocsf.Origin)
		doubt  bool
		errors bool
	}{
		{"", nil, false, false},
		{"", func(o *ocsf.Origin) { o.UID = []byte("a\"\\\n\u00e9") }, false, false},
		{"", func(o *ocsf.Origin) { o.UID = []byte("\xff") }, true, true},
		{"", func(o *ocsf.Origin) { o.LogName = "\xed\xa0\x80" }, true, true},
		{"", func(o *ocsf.Origin) { o.Rest = []ocsf.Field{{Path: []byte("a"), Text: []byte("\xff")}} }, true, true},
		{"", func(o *ocsf.Origin) { o.Rest = []ocsf.Field{{Path: []byte("\xff"), Text: []byte("a")}} }, true, true},
		{`,"enrichments":[{"name":"n","value":"v","data":` + deep[1:len(deep)-1] + `}]`, nil, false, false},
		// A list of one: the event is deeper than the record.
		{`,"enrichments":{"name":"n","value":"v","data":` + deep + `}`, nil, true, true},
	} {
		at := noOrigin()
		if k.at != nil {
			k.at(&at)
		}
		event, _, err := c.Conform([]byte("before"), 0, fmt.Appendf(nil, record, k.more), at)
		if err != nil {
			t.Fatal(err)
		}
		event = event[len("before"):]
		want, wantErr := v.Validate(event)
		wanted := fmt.Sprintf("%+v", want)
		got, err := v.ValidateConformed(c)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || fmt.Sprintf("%+v", got) != wanted || (err != nil) != k.errors {
			t.Errorf("%.80q: %v, want %v", event, err, wantErr)
		}
		if had, err := ocsf.SameTree(c, event); had == k.doubt || err != nil && !k.errors {
			t.Errorf("%.80q: tree %v, %v", event, had, err)
		}
	}
	for _, bad := range []string{"{", `{"class_uid":4001}`, `{"class_uid":1}`, `{}`} {
		if _, _, err := c.Conform([]byte("before"), 0, []byte(bad), noOrigin()); err == nil {
			t.Fatal(bad)
		}
		if got, err := v.ValidateConformed(c); !errors.Is(err, ocsf.ErrNotJSON) || !reflect.DeepEqual(got, ocsf.Report{}) {
			t.Errorf("%s: %+v %v", bad, got, err)
		}
	}
}

// TestOddSchemas: names and ids that do not stand in JSON as they are make no tree.
func TestOddSchemas(t *testing.T) {
	const schema = `{"version":"1.3.0","classes":{"c":{"name":"c","uid":1,"attributes":{
		"class_uid":{"type":"integer_t"},"time":{"type":"long_t"},%q:{"type":"integer_t","enum":{%q:{"caption":"A"}}}}}},
		"dictionary":{"types":{"attributes":{"integer_t":{},"long_t":{}}}}}`
	for _, k := range []struct {
		name, id string
		doubt    bool
	}{{"x", "1000", false}, {"x\"", "1000", true}, {"x", "0100", true}} {
		s, err := ocsf.ReadSchema(strings.NewReader(fmt.Sprintf(schema, k.name, k.id)))
		if err != nil {
			t.Fatal(err)
		}
		c := conformer(t, s, ocsf.ConformConfig{})
		event, _, err := c.Conform(nil, 1, fmt.Appendf(nil, `{"time":5,%q:"a"}`, k.name), noOrigin())
		if err != nil {
			t.Fatal(err)
		}
		v := s.Validator()
		want, wantErr := v.Validate(event)
		wanted := fmt.Sprintf("%+v", want)
		got, err := v.ValidateConformed(c)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || fmt.Sprintf("%+v", got) != wanted || (err != nil) != k.doubt {
			t.Errorf("%s: %+v %v, want %s %v", event, got, err, wanted, wantErr)
		}
	}
}
