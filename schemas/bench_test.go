package schemas

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// The event of about 190 bytes: ten fields wanted, two not.
func telemetry(n int) ([]Field, [][]byte) {
	fields := []Field{
		{Name: "device_id", Type: String, Path: "$.device_id"},
		{Name: "gateway_id", Type: String, Path: "$.gateway_id"},
		{Name: "ts", Type: Time, Unit: Millis, Path: "$.ts"},
		{Name: "lat", Type: Float64, Path: "$.lat"},
		{Name: "lon", Type: Float64, Path: "$.lon"},
		{Name: "rssi", Type: Int64, Path: "$.rssi"},
		{Name: "battery", Type: Int64, Path: "$.battery"},
		{Name: "ax", Type: Float64, Path: "$.accel.x"},
		{Name: "ay", Type: Float64, Path: "$.accel.y"},
		{Name: "az", Type: Float64, Path: "$.accel.z"},
	}
	r := rand.New(rand.NewPCG(1, 1))
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, `{"device_id":"AC233F%06X","gateway_id":"GW-%04d","ts":%d,"lat":%.6f,"lon":%.6f,"rssi":%d,"battery":%d,"fw":"2.4.%d","seq":%d,"accel":{"x":%.3f,"y":%.3f,"z":%.3f}}`,
			r.IntN(1<<24), r.IntN(10000), 1767225600000+r.Int64N(1e9), 52+r.Float64(), 5+r.Float64(), -30-r.IntN(70), r.IntN(101), r.IntN(10), r.IntN(65536), r.Float64()-0.5, r.Float64()-0.5, 1+r.Float64()/10)
	}
	return fields, out
}

// The event of about 110 bytes, seven fields.
func advertisement(n int) ([]Field, [][]byte) {
	fields := []Field{
		{Name: "device_id", Type: String, Path: "$.device_id"},
		{Name: "ts", Type: Time, Unit: Millis, Path: "$.ts"},
		{Name: "rssi", Type: Int64, Path: "$.rssi"},
		{Name: "battery", Type: Int64, Path: "$.battery"},
		{Name: "temp", Type: Int64, Scale: 2, Path: "$.temp"},
		{Name: "gw", Type: String, Path: "$.gw"},
		{Name: "seq", Type: Int64, Path: "$.seq"},
	}
	r := rand.New(rand.NewPCG(2, 2))
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, `{"device_id":"AC233F%06X","ts":%d,"rssi":%d,"battery":%d,"temp":%.1f,"gw":"GW-%04d","seq":%d}`,
			r.IntN(1<<24), 1767225600000+r.Int64N(1e9), -30-r.IntN(70), r.IntN(101), 15+10*r.Float64(), r.IntN(10000), r.IntN(65536))
	}
	return fields, out
}

func benchmarkAppend(b *testing.B, fields []Field, in [][]byte) {
	const batch = 4096
	d := newTestDecoder(b, fields)
	size := 0
	for _, e := range in {
		size += len(e)
	}
	b.SetBytes(int64(size / len(in)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := d.Append(in[i%len(in)]); err != nil {
			b.Fatal(err)
		}
		if d.Len() == batch {
			release(d.Columns())
		}
	}
}

func BenchmarkAppend190(b *testing.B) {
	fields, in := telemetry(16384)
	benchmarkAppend(b, fields, in)
}

func BenchmarkAppend110(b *testing.B) {
	fields, in := advertisement(16384)
	benchmarkAppend(b, fields, in)
}

// Names in an order that is never the one before.
func BenchmarkAppendUnpredicted(b *testing.B) {
	fields, _ := advertisement(1)
	r := rand.New(rand.NewPCG(3, 3))
	parts := []string{`"device_id":"AC233F0A1B2C"`, `"ts":1767225600123`, `"rssi":-67`, `"battery":83`, `"temp":21.5`, `"gw":"GW-0412"`, `"seq":12345`}
	in := make([][]byte, 4096)
	for i := range in {
		r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		in[i] = fmt.Appendf(nil, "{%s,%s,%s,%s,%s,%s,%s}", parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], parts[6])
	}
	benchmarkAppend(b, fields, in)
}

// One row allocates nothing; the columns of a batch are what is left.
func TestAppendAllocates(t *testing.T) {
	fields, in := telemetry(256)
	d := newTestDecoder(t, fields)
	for range 8 {
		for _, e := range in {
			if err := d.Append(e); err != nil {
				t.Fatal(err)
			}
		}
		release(d.Columns())
	}
	i := 0
	if n := testing.AllocsPerRun(200, func() {
		if err := d.Append(in[i%len(in)]); err != nil {
			t.Fatal(err)
		}
		i++
	}); n != 0 {
		t.Errorf("%v allocations per row", n)
	}
}
