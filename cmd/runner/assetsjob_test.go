package main

import (
	"math"
	"reflect"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/operators/assets"
	"github.com/tidemark/tidemark/schemas/ble"
)

// TestAssetsDefaults: a section without settings is the reference, but for times, which are the
// decoder's.
func TestAssetsDefaults(t *testing.T) {
	var c AssetsConfig
	c.setDefaults()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	want := assets.DefaultConfig()
	want.Filter.OldestTime, want.Filter.MaxAhead = math.MinInt64, math.MaxInt64
	if got := c.config(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestAssetsSchema: what the operator says of a change of state are the columns that the mapper
// knows, and few beside them.
func TestAssetsSchema(t *testing.T) {
	more := map[string]bool{"confirmed_time": true, "battery_mv": true}
	for _, f := range assets.EventSchema().Fields() {
		at := ble.StateSchema().FieldIndices(f.Name)
		switch {
		case len(at) == 0 && !more[f.Name]:
			t.Errorf("column %s: no mapper knows it", f.Name)
		case len(at) > 0 && !arrow.TypeEqual(ble.StateSchema().Field(at[0]).Type, f.Type):
			t.Errorf("column %s: a %s, where mappers want %s", f.Name, f.Type, ble.StateSchema().Field(at[0]).Type)
		}
	}
}
