package main

import (
	"bytes"
	"math"
	"testing"

	"github.com/tidemark/tidemark/operators/traffic"
)

// FuzzSeries: a file of series is read to its end or refused, and what is read is in order.
func FuzzSeries(f *testing.F) {
	f.Add([]byte("ts,value\n2024-03-04T00:00:00Z,5\n2024-03-04T00:15:00Z,\n"))
	f.Add([]byte("a,ts,b\n1,2024-03-04T02:00:00+02:00,2\n"))
	f.Add([]byte("ts,\"v\"\"w\"\n\"2024-03-04T00:00:00Z\",1e9\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := newSeriesReader("f.csv", bytes.NewReader(b))
		if err != nil {
			return
		}
		last := int64(math.MinInt64)
		for {
			at, values, err := s.next()
			if err != nil {
				break
			}
			if at <= last || at%traffic.SlotTicks != 0 || len(values) != len(s.signals) {
				t.Fatalf("slot %d behind %d with %d values of %d signals", at, last, len(values), len(s.signals))
			}
			last = at
		}
	})
}

// FuzzHistory: a history is read or refused.
func FuzzHistory(f *testing.F) {
	f.Add([]byte("ts,entity,signal,value\n2024-03-04T00:00:00Z,TD,http,5\n"))
	f.Add([]byte("\ufeffvalue,entity,ts\n,TD,2024-03-04T00:00:00Z\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = readHistoryFile("f.csv", bytes.NewReader(b), func(_, _ string, start int64, v float64) bool {
			if start%traffic.SlotTicks != 0 || !(v >= 0) {
				t.Fatalf("slot %d: %v", start, v)
			}
			return true
		})
	})
}

// FuzzVerdicts: lines are verdicts that a register takes, or refused.
func FuzzVerdicts(f *testing.F) {
	f.Add([]byte(`{"entity":"TD","start":"2024-05-25T14:15:00Z","status":"VERIFIED","manual":true}` + "\n"))
	f.Add([]byte(`{"uuid":"u","entity":"TD","start":"2024-05-25T14:15:00Z","end":"2024-05-26T14:15:00Z","status":"FALSE_POSITIVE","at":"2024-05-27T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		vs, err := parseVerdicts("f.jsonl", b)
		if err != nil {
			return
		}
		var g traffic.Register
		g.Configure(traffic.DefaultRegisterConfig(), vs)
		g.Take(traffic.Notice{At: 1716646500000000, Kind: traffic.Eligibly, Entity: "TD", Signal: "http", Eligible: true})
		g.Advance(1816646500000000)
		if err := new(traffic.Register).Read(g.Append(nil)); err != nil {
			t.Fatal(err)
		}
	})
}
