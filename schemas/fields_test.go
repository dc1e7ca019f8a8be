package schemas_test

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/schemas"
	"github.com/tidemark/tidemark/schemas/ble"
	"github.com/tidemark/tidemark/schemas/pdu"
	"github.com/tidemark/tidemark/schemas/traffic"
)

// The record of each feed with every field, as its producers send it.
func TestFeeds(t *testing.T) {
	for _, f := range []struct {
		name, time   string
		fields       []schemas.Field
		record, want string
	}{
		{"ble", ble.EventTime, ble.Fields(),
			`{"asset_id":"RC-0003811","gateway_id":"GW-0412","ts_event":1696404601150,"ts_ingest":1696404601300,"seq":17,"rssi_dbm":-72,"tx_power_dbm":4,"battery_mv":2958,"temp_c":21.55,"accel_mg":[12,-3,1001],"gps":{"lat":52.0894123,"lon":5.0913,"acc_m":4.5,"speed_mps":0.25},"buffered":false,"boot_count":3}`,
			"RC-0003811 GW-0412 2023-10-04T07:30:01.15Z 17 -72 4 2958 2155 12 -3 1001 520894123 50913000 4.5 0.25 false 3"},
		{"pdu", pdu.EventTime, pdu.Fields(),
			`{"pdu_id":"PDU-LIS01-R12-A","scope":"phase","element":"L2","feed":"A","wiring":"wye","v":230.125,"a":21.3,"w":4890.2,"va":4901.6,"var":335.1,"pf":0.9976,"hz":49.98,"kwh_total":182733.125,"state":"on","rated_a":32,"ts_device":1696404601150}`,
			"PDU-LIS01-R12-A phase L2 A wye 230125 21300 48902 49016 3351 9976 4998 182733125 on 320 2023-10-04T07:30:01.15Z"},
		{"traffic", traffic.EventTime, traffic.Fields(),
			`{"entity":"AS64500","device":"edge-3","if_name":"xe-0/0/1","direction":"in","source":"netflow","bytes":918273645,"packets":812344,"bytes_in":640112233,"bytes_out":278161412,"packets_in":520001,"packets_out":292343,"requests":1203345,"ts":1691018100000}`,
			"AS64500 edge-3 xe-0/0/1 in netflow 918273645 812344 640112233 278161412 520001 292343 1203345 (null) (null) 2023-08-02T23:15:00Z"},
	} {
		t.Run(f.name, func(t *testing.T) {
			d, err := schemas.NewDecoder(f.fields, schemas.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Append([]byte(f.record)); err != nil {
				t.Fatal(err)
			}
			if err := d.Append([]byte(`{}`)); err == nil || !strings.Contains(err.Error(), f.fields[0].Name) {
				t.Errorf("a record without %s: %v", f.fields[0].Name, err)
			}
			var got []string
			for i, c := range d.Columns() {
				defer c.Release()
				if ts, ok := c.(*array.Timestamp); ok {
					if d.Fields()[i].Name != f.time {
						t.Errorf("%s is a time, EventTime says %s", d.Fields()[i].Name, f.time)
					}
					got = append(got, ts.Value(0).ToTime(arrow.Microsecond).Format("2006-01-02T15:04:05.999Z07:00"))
					continue
				}
				got = append(got, c.ValueStr(0))
			}
			if s := strings.Join(got, " "); s != f.want {
				t.Errorf("\n got %s\nwant %s", s, f.want)
			}
		})
	}
}
