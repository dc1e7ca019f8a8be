package assets_test

import (
	"math"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/operators/assets"
)

func TestParseGateways(t *testing.T) {
	g, err := assets.ParseGateways([]byte("\ufeffnote,gateway_id,site,lon,lat,vehicle\nx,a,depot,5.1,52.2,\ny,b,,,,true\nz,c,shop,,,false\n"))
	if err != nil {
		t.Fatal(err)
	}
	if a := g.Get("a"); g.Len() != 3 || a.Site != "depot" || !a.Placed || a.Vehicle || a.Lat != 52.2 || a.Lon != 5.1 {
		t.Errorf("%d gateways, %+v", g.Len(), a)
	}
	if b, c, other := g.Get("b"), g.Get("c"), g.Get("other"); b.Placed || !b.Vehicle || c.Placed || c.Vehicle || c.Site != "shop" || other.Site != "" || other.ID != "other" {
		t.Errorf("%+v, %+v, %+v", b, c, other)
	}
	for want, text := range map[string]string{
		"is empty: want a header with gateway_id":                           "",
		"line 1: no column gateway_id: the header has id, lat":              "id,lat\n",
		"line 2: gateway_id: empty: want the id that detections carry":      "gateway_id\n\"\"\n",
		"line 3: gateway_id: \"a\" is there twice: leave one line":          "gateway_id\na\na\n",
		"line 2: vehicle: \"maybe\": want true or false":                    "gateway_id,vehicle\na,maybe\n",
		"line 2: lat and lon: \"1\" and \"\": want two numbers, or neither": "gateway_id,lat,lon\na,1,\n",
		"line 2: position 95, 5: want a latitude":                           "gateway_id,lat,lon\na,95,5\n",
		"line 2: vehicle: true, and a place: a vehicle has none":            "gateway_id,lat,lon,vehicle\na,9,5,true\n",
		"record on line 3: wrong number of fields":                          "gateway_id,lat\na,\nb\n",
	} {
		if _, err := assets.ParseGateways([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestParseRegistry(t *testing.T) {
	r, err := assets.ParseRegistry([]byte("asset_id,since\na,2020\nb,2021\na,2022\n"))
	if err != nil || r.Len() != 2 || !r.Has("a") || !r.Has("b") || r.Has("c") {
		t.Errorf("%v, %v", r, err)
	}
	var none *assets.Registry
	if !none.Has("c") || none.Len() != 0 {
		t.Error("without a registry an asset is not known")
	}
	if _, err := assets.ParseRegistry([]byte("asset_id,x\n,1\n")); err == nil || !strings.Contains(err.Error(), "line 2: asset_id: empty") {
		t.Error(err)
	}
}

// TestMedian: the median of a gateway in a window, of an even number between the two in the middle.
func TestMedian(t *testing.T) {
	for _, c := range []struct {
		heard []float64
		want  float64
	}{
		{[]float64{-70}, -70}, {[]float64{-70, -75}, -72.5}, {[]float64{-100, -60, -70}, -70}, {[]float64{-60, -60, -61, -90}, -60.5}, {[]float64{-60, -61, -61, -61}, -61}, {[]float64{-60, 127, 0}, -60},
	} {
		f := &assets.Follower{Config: assets.DefaultConfig(), World: town(t), To: &silent{}}
		var s assets.Asset
		for i, rssi := range c.heard {
			d := assets.Detection{HasTime: true, Ingest: begin}
			d.At, d.Gateway, d.RSSI, d.HasRSSI, d.Seq, d.HasSeq = begin+int64(i)*5*second, "north1", rssi, true, uint8(i), true
			f.Detect("x", &s, &d)
		}
		f.Advance("x", &s, begin+100*second)
		if got := s.MeanOf("north1"); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v: %v, want %v", c.heard, got, c.want)
		}
	}
}
