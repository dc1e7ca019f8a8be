package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/operators/traffic"
	trafficfeed "github.com/tidemark/tidemark/schemas/traffic"
)

// radarRecords are three anomalies that are listed, and four that are not.
func radarRecords() []traffic.Record {
	at := func(day, hour int) int64 {
		return time.Date(2024, 6, day, hour, 0, 0, 0, time.UTC).UnixMicro()
	}
	return []traffic.Record{
		{UUID: "u1", Entity: "AS64500", Start: at(1, 6), End: at(1, 9), HasEnd: true, Signals: []string{"dns", "http"}, Status: traffic.Verified, Published: true},
		{UUID: "u2", Entity: "TD", Start: at(5, 7), Signals: []string{"http"}, Status: traffic.Unverified, Published: true, Open: true},
		{UUID: "u3", Entity: "TD", Start: at(3, 7), End: at(3, 8), HasEnd: true, Signals: []string{"http"}, Status: traffic.Unverified, Published: true},
		{UUID: "f", Entity: "TD", Start: at(4, 0), Status: traffic.FalsePositive, Published: true},
		{UUID: "h", Entity: "HT", Start: at(4, 0), Status: traffic.Unverified, Held: true},
		{UUID: "p", Entity: "HT", Start: at(4, 0), Status: traffic.Unverified},
		{UUID: "w", Entity: "HT", Start: at(4, 0), Status: traffic.Unverified, Published: true, Withdrawn: true},
	}
}

func TestRadarQueries(t *testing.T) {
	view := newRadarView()
	view.show(1, radarRecords())
	api := newRadarAPI(view, "")
	days := int(time.Since(time.Date(2024, 6, 4, 0, 0, 0, 0, time.UTC)).Hours()/24) + 1
	for query, want := range map[string]string{
		"":                                 "200 u2 u3 u1",
		"asn=64500":                        "200 u1",
		"asn=AS64500":                      "200 u1",
		"location=TD":                      "200 u2 u3",
		"location=HT":                      "200",
		"status=VERIFIED":                  "200 u1",
		"status=UNVERIFIED&limit=1":        "200 u2",
		"limit=1&offset=1":                 "200 u3",
		"offset=9":                         "200",
		"dateStart=2024-06-03T07:00:00Z":   "200 u2 u3",
		"dateEnd=2024-06-03T07:00:00Z":     "200 u3 u1",
		"dateStart=2024-06-03T07:00:01Z":   "200 u2",
		fmt.Sprintf("dateRange=%dd", days): "200 u2",
		"dateRange=52w":                    "200",
		"format=json":                      "200 u2 u3 u1",
		"asn=x":                            `400 asn "x": want a number such as 64500`,
		"status=FALSE_POSITIVE":            `400 status "FALSE_POSITIVE": want VERIFIED or UNVERIFIED`,
		"asn=1&location=TD":                "400 asn and location: an anomaly has one of the two",
		"dateRange=7":                      `400 dateRange "7": want a number of days or weeks`,
		"dateRange=7d&dateStart=2024-06-03T07:00:00Z":                 "400 dateRange: with dateStart or dateEnd",
		"dateStart=yesterday":                                         `400 dateStart "yesterday"`,
		"dateStart=2024-06-03T07:00:00Z&dateEnd=2024-06-02T07:00:00Z": "400 dateStart: is after dateEnd",
		"limit=0":         `400 limit "0": want a number from 1 to 1000`,
		"offset=-1":       `400 offset "-1": want`,
		"format=xml":      `400 format "xml": want JSON or CSV`,
		"limit=1&limit=2": "400 limit: is there 2 times",
		"page=2":          "400 page: unknown; known are asn",
	} {
		code, body := askRadar(api, http.MethodGet, "/radar/traffic_anomalies?"+query, "")
		got := fmt.Sprint(code)
		if code == 200 {
			var answer struct {
				Success bool
				Result  struct{ TrafficAnomalies []anomalyJSON }
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil || !answer.Success {
				t.Fatalf("%s: %v: %s", query, err, body)
			}
			for _, a := range answer.Result.TrafficAnomalies {
				got += " " + a.UUID
			}
			if got != want {
				t.Errorf("%s: %s, want %s", query, got, want)
			}
			continue
		}
		var answer struct {
			Success bool
			Errors  []struct{ Message string }
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Success || len(answer.Errors) != 1 {
			t.Fatalf("%s: %v: %s", query, err, body)
		}
		if got += " " + answer.Errors[0].Message; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

func askRadar(api http.Handler, method, target, body string) (code int, answer string) {
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

// TestRadarShape: members and columns are those that clients know.
func TestRadarShape(t *testing.T) {
	view := newRadarView()
	view.show(1, radarRecords())
	api := newRadarAPI(view, "")
	for target, want := range map[string]string{
		"/radar/traffic_anomalies?asn=64500": `{"result":{"trafficAnomalies":[{"uuid":"u1","type":"AS","status":"VERIFIED","startDate":"2024-06-01T06:00:00Z","endDate":"2024-06-01T09:00:00Z",` +
			`"asnDetails":{"asn":"64500","name":"AS64500"},"visibleInDataSources":["dns","http"]}]},"success":true}` + "\n",
		"/radar/traffic_anomalies?limit=1": `{"result":{"trafficAnomalies":[{"uuid":"u2","type":"LOCATION","status":"UNVERIFIED","startDate":"2024-06-05T07:00:00Z",` +
			`"locationDetails":{"code":"TD","name":"TD"},"visibleInDataSources":["http"]}]},"success":true}` + "\n",
		"/radar/traffic_anomalies?location=XX": `{"result":{"trafficAnomalies":[]},"success":true}` + "\n",
		"/radar/traffic_anomalies?format=CSV&limit=2": "uuid,type,status,startDate,endDate,asn,asnName,location,locationName,visibleInDataSources\n" +
			"u2,LOCATION,UNVERIFIED,2024-06-05T07:00:00Z,,,,TD,TD,http\nu3,LOCATION,UNVERIFIED,2024-06-03T07:00:00Z,2024-06-03T08:00:00Z,,,TD,TD,http\n",
		"/radar/traffic_anomalies/locations":            `{"result":{"trafficAnomalies":[{"clientCountryAlpha2":"TD","clientCountryName":"TD","value":"2"}]},"success":true}` + "\n",
		"/radar/traffic_anomalies/locations?format=CSV": "clientCountryAlpha2,clientCountryName,value\nTD,TD,2\n",
	} {
		if code, got := askRadar(api, http.MethodGet, target, ""); code != 200 || got != want {
			t.Errorf("%s: %d\n%s\nwant\n%s", target, code, got, want)
		}
	}
	view.name(map[string]string{"TD": "Chad"})
	for target, want := range map[string]string{
		"/radar/traffic_anomalies?limit=1":   `"locationDetails":{"code":"TD","name":"Chad"}`,
		"/radar/traffic_anomalies/locations": `"clientCountryName":"Chad"`,
	} {
		if _, got := askRadar(api, http.MethodGet, target, ""); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
	if code, _ := askRadar(api, http.MethodGet, "/radar/outages", ""); code != 404 {
		t.Errorf("another page: %d", code)
	}
}

// TestRadarVerdicts: what is posted is in the file, in a form that the job takes, and in the next
// answer.
func TestRadarVerdicts(t *testing.T) {
	file := writeFile(t, "verdicts.jsonl", `{"entity":"TD","start":"2024-01-01T00:00:00Z","status":"VERIFIED"}`) // without a line end
	view := newRadarView()
	view.show(time.Date(2024, 6, 6, 0, 0, 0, 0, time.UTC).UnixMicro(), radarRecords())
	api := newRadarAPI(view, file)
	for _, c := range []struct {
		body string
		code int
		want string
	}{
		{`{"uuid":"u2","status":"FALSE_POSITIVE","by":"ann","note":"holiday"}`, 202, `"status":"FALSE_POSITIVE","uuid":"u2"`},
		{`{"uuid":"h","status":"VERIFIED"}`, 202, ""},
		{`{"manual":true,"entity":"AS1","startDate":"2024-06-02T00:00:00Z","endDate":"2024-06-02T03:00:00Z","status":"VERIFIED"}`, 202, `"uuid":"` + traffic.Anomaly{Start: 1717286400000000}.UUID("AS", "AS1") + `"`},
		{`{"uuid":"none","status":"VERIFIED"}`, 404, "no anomaly of this job"},
		{`{"uuid":"u1","status":"UNVERIFIED"}`, 400, "want VERIFIED or FALSE_POSITIVE"},
		{`{"uuid":"u1","status":"VERIFIED","entity":"TD"}`, 400, "are for entries by hand"},
		{`{"manual":true,"entity":"AS1","status":"VERIFIED"}`, 400, "start: missing"},
		{`{"manual":true,"entity":"AS1","startDate":"2024-06-02T00:00:00Z","status":"FALSE_POSITIVE"}`, 400, "is born VERIFIED"},
		{`{"manual":true,"uuid":"u1","entity":"AS1","startDate":"2024-06-02T00:00:00Z","status":"VERIFIED"}`, 400, "has none yet"},
		{`{"uuid":"u1","status":"VERIFIED"}{"uuid":"u3"}`, 400, "there is something behind the object; want an object"},
		{`{"uuid":"u1","status":"VERIFIED"}]`, 400, "behind the object"},
		{`{"verdict":"x"}`, 400, "want an object with uuid"},
		{strings.Repeat(" ", maxVerdictBytes) + `{}`, 400, "too large"},
	} {
		code, body := askRadar(api, http.MethodPost, "/radar/traffic_anomalies/verdicts", c.body)
		if code != c.code || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d %s, want %d %s", c.body[:min(len(c.body), 100)], code, body, c.code, c.want)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"entity":"TD","start":"2024-01-01T00:00:00Z","status":"VERIFIED"}
{"uuid":"u2","entity":"TD","start":"2024-06-05T07:00:00Z","status":"FALSE_POSITIVE","by":"ann","note":"holiday","at":"2024-06-06T00:00:00Z"}
{"uuid":"h","entity":"HT","start":"2024-06-04T00:00:00Z","status":"VERIFIED","at":"2024-06-06T00:00:00Z"}
{"entity":"AS1","start":"2024-06-02T00:00:00Z","end":"2024-06-02T03:00:00Z","status":"VERIFIED","manual":true,"at":"2024-06-06T00:00:00Z"}
`
	if string(b) != want {
		t.Errorf("the file has\n%s\nwant\n%s", b, want)
	}
	if vs, err := parseVerdicts(file, b); err != nil || len(vs) != 4 {
		t.Errorf("%d verdicts, %v", len(vs), err)
	}
	var listed []string
	for _, r := range view.list() {
		listed = append(listed, r.UUID+" "+string(r.Status))
	}
	if got := strings.Join(listed, ", "); got != "h VERIFIED, u3 UNVERIFIED, u1 VERIFIED" {
		t.Errorf("listed: %s", got)
	}
	if code, body := askRadar(newRadarAPI(view, ""), http.MethodPost, "/radar/traffic_anomalies/verdicts", `{}`); code != 409 || !strings.Contains(body, "traffic.verdicts") {
		t.Errorf("without a file: %d %s", code, body)
	}
}

// TestRadarSaid: what somebody has said is shown at once, and for an hour of event time if the job
// never takes it.
func TestRadarSaid(t *testing.T) {
	view, start := newRadarView(), time.Date(2024, 6, 6, 0, 0, 0, 0, time.UTC)
	view.show(start.UnixMicro(), radarRecords())
	listed := func(at time.Duration, records []traffic.Record) (uuids string) {
		view.show(start.Add(at).UnixMicro(), records)
		for _, r := range view.list() {
			uuids += r.UUID + " "
		}
		return uuids
	}
	view.say("u2", traffic.FalsePositive)
	if got := listed(time.Hour, radarRecords()); got != "u3 u1 " {
		t.Errorf("within the hour: %s", got)
	}
	if got := listed(time.Hour+time.Second, nil); got != "u2 u3 u1 " {
		t.Errorf("after the hour: %s", got)
	}
	view.say("u3", traffic.FalsePositive)
	taken := radarRecords()
	taken[2].Status, taken[2].Person = traffic.FalsePositive, true
	if listed(2*time.Hour, taken); len(view.said) != 0 {
		t.Errorf("what the job has taken is still there: %v", view.said)
	}
}

func TestParseVerdicts(t *testing.T) {
	for text, want := range map[string]string{
		"\n\n": "",
		`{"entity":"TD","start":"2024-01-01T00:00:00Z","status":"VERIFIED"}` + "\n{":                      `v.jsonl:2: unexpected EOF; want an object with entity`,
		`{"entity":"TD","start":"2024-01-01T00:00:00Z","status":"GOOD"}`:                                  `v.jsonl:1: status "GOOD": want VERIFIED or FALSE_POSITIVE`,
		`{"entity":"TD","begin":"2024-01-01T00:00:00Z","status":"VERIFIED"}`:                              `v.jsonl:1: json: unknown field "begin"`,
		`{"start":"2024-01-01T00:00:00Z","status":"VERIFIED"}`:                                            "v.jsonl:1: entity: missing",
		`{"entity":"TD","status":"VERIFIED"}`:                                                             "v.jsonl:1: start: missing",
		`{"entity":"TD","start":"2024-01-01T00:00:00Z","end":"2023-01-01T00:00:00Z","status":"VERIFIED"}`: "v.jsonl:1: end: is not after start",
	} {
		switch _, err := parseVerdicts("v.jsonl", []byte(text)); {
		case want == "" && err != nil:
			t.Errorf("%q: %v", text, err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestParseNames(t *testing.T) {
	if got, err := parseNames("n.csv", []byte("entity,name\nTD,Chad\nAS64500,\"Example, Inc.\"\n")); err != nil || fmt.Sprint(got) != "map[AS64500:Example, Inc. TD:Chad]" {
		t.Error(got, err)
	}
	for text, want := range map[string]string{
		"":                             "n.csv:1: want the columns entity,name",
		"name,entity\n":                "n.csv:1: want the columns entity,name",
		"entity,name\nTD,Chad\nTD,T\n": `n.csv: row 3: entity "TD", name "T": want both, and no entity twice`,
		"entity,name\nTD\n":            "wrong number of fields",
	} {
		if _, err := parseNames("n.csv", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestReadHistory(t *testing.T) {
	good := writeFile(t, "a.csv", "ts,entity,signal,value\n2024-03-04T00:30:00Z,AS1,http,7\n2024-03-04T00:00:00Z,AS1,http,5\n2024-03-04T00:00:00Z,AS1,dns,\n")
	more := writeFile(t, "b.csv", "value,ts,entity\n3,2024-03-04T00:15:00Z,TD\n")
	got, err := readHistory([]string{good, more})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2024, 3, 4, 0, 0, 0, 0, time.UTC).UnixMicro()
	if text := fmt.Sprint(got); text != fmt.Sprintf("[{AS1 http %d [5 NaN 7]} {TD  %d [3]}]", start, start+traffic.SlotTicks) {
		t.Error(text)
	}
	for text, want := range map[string]string{
		"":           "EOF; the first line names the columns: ts,entity,signal,value",
		"ts,value\n": `:1:1: columns ["ts" "value"]: want ts, entity, value`,
		"ts,entity,value\n2024-03-04T00:01:00Z,a,1\n":                           ":2:1: ts 2024-03-04T00:01:00Z begins no slot",
		"ts,entity,value\n2024-03-04T00:00:00Z,a,x\n":                           `:2:24: value "x": want a number of 0 or more`,
		"ts,entity,value\n2024-03-04T00:00:00Z,a\n":                             ":2:1: the row has not as many columns",
		"ts,entity,value\n2024-03-04T00:00:00Z,a,1\n2024-03-04T00:00:00Z,a,1\n": ":3:1: ts 2024-03-04T00:00:00Z of a is there twice",
	} {
		if _, err := readHistory([]string{writeFile(t, "bad.csv", text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := readHistory([]string{"none.csv"}); err == nil {
		t.Error("a file that is not there is no error")
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/history", http.StatusFound)
			return
		}
		if r.URL.Path != "/history" {
			http.Error(w, "Code: 60. no such table", http.StatusNotFound)
			return
		}
		fmt.Fprint(w, "\"ts\",\"entity\",\"value\"\n\"2024-03-04T00:15:00Z\",\"TD\",3\n\"2024-03-04T00:30:00Z\",\"TD\",\\N\n")
	}))
	defer server.Close()
	elsewhere := httptest.NewServer(http.RedirectHandler(server.URL+"/history", http.StatusFound))
	defer elsewhere.Close()
	if _, err := readHistory([]string{elsewhere.URL}); err == nil || !strings.Contains(err.Error(), "it redirects to "+server.URL+": name that address") {
		t.Errorf("of a server that sends us elsewhere: %v", err)
	}
	if got, err := readHistory([]string{server.URL + "/moved"}); err != nil || len(got) != 1 {
		t.Errorf("of a server that sends us on: %v, %v", got, err)
	}
	for most, want := range map[int64]string{83: "<nil>", 82: "more than 82 bytes, the most that are read"} {
		err := fetchHistory(server.URL+"/history", most, func(string, string, int64, float64) bool { return true })
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("at most %d bytes: %v, want %s", most, err, want)
		}
	}
	if got, err := readHistory([]string{server.URL + "/history"}); err != nil || len(got) != 1 || got[0].Values[0] != 3 {
		t.Errorf("of a server: %v, %v", got, err)
	}
	if _, err := readHistory([]string{server.URL + "/other"}); err == nil || !strings.Contains(err.Error(), "404 Not Found: Code: 60. no such table") {
		t.Errorf("of a server that refuses: %v", err)
	}
}

// TestRadarLive: a job finds a drop with the first rows after its history, shows it, takes what
// somebody posts, and knows all of it after it was killed.
func TestRadarLive(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	broker, dir := newBroker(t), t.TempDir()
	start := time.Date(2024, 3, 4, 0, 0, 0, 0, time.UTC)
	const history = 30 * 96
	var csv, live strings.Builder
	csv.WriteString("ts,entity,value\n")
	for i := range history {
		fmt.Fprintf(&csv, "%s,TD,%d\n", start.Add(time.Duration(i)*slotLength).Format(time.RFC3339), 5000+10*(i%96))
	}
	for i := range 8 {
		fmt.Fprintf(&live, `{"entity":"TD","bytes":40,"ts":%d}`+"\n", start.Add(time.Duration(history+i)*slotLength).UnixMilli())
	}
	files := map[string]string{
		"history.csv": csv.String(), "live.jsonl": live.String(), "verdicts.jsonl": "", "token": "secret\n",
		"job.yaml": `job: j
feed: traffic
source: {kafka: {brokers: [` + broker + `], topic: t}}
event_time: {max_disorder: 1m}
traffic: {bootstrap: [history.csv], verdicts: verdicts.jsonl}
normalize: {to: none}
sinks: [{parquet: {dir: out}}]
checkpoint: {dir: state, interval: 50ms}
http: {listen: "127.0.0.1:0", token_file: token}
`}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	produce := func(file string) {
		if code, _, stderr := run(t, "produce", "--brokers", broker, "--topic", "t", "--partitions", "1", "--jsonl", filepath.Join(dir, file), "--time", "ts"); code != 0 {
			t.Fatal(stderr)
		}
	}
	produce("live.jsonl")
	var stderr *lockedBuffer
	begin := func() (url string, kill func()) {
		stderr = &lockedBuffer{}
		ctx, cancel := context.WithCancel(t.Context())
		cmd := program(ctx, dir, "run", "-f", "job.yaml")
		cmd.Stderr = stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "status page", func() bool {
			if m := regexp.MustCompile(`url=(http://[\d.:]+)`).FindStringSubmatch(stderr.String()); m != nil {
				url = m[1]
			}
			return url != ""
		})
		return url, func() { cancel(); _ = cmd.Wait() }
	}
	listed := func(url string) string {
		_, body, _ := get(t, url+"/radar/traffic_anomalies")
		return body
	}
	base, kill := begin()
	eventually(t, "the anomaly", func() bool {
		return strings.Contains(listed(base), `"status":"UNVERIFIED","startDate":"2024-04-03T00:00:00Z"`)
	})
	uuid := regexp.MustCompile(`"uuid":"([0-9a-f-]{36})"`).FindStringSubmatch(listed(base))[1]
	post := func(token string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/radar/traffic_anomalies/verdicts", strings.NewReader(`{"uuid":"`+uuid+`","status":"VERIFIED","by":"ann"}`))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	if code := post(""); code != http.StatusUnauthorized {
		t.Errorf("a verdict of nobody: %d", code)
	}
	if code := post("secret"); code != http.StatusAccepted {
		t.Errorf("a verdict: %d\n%s", code, stderr.String())
	}
	if !strings.Contains(listed(base), `"status":"VERIFIED"`) {
		t.Errorf("after the verdict: %s", listed(base))
	}
	eventually(t, "the verdict is read", func() bool { return strings.Contains(stderr.String(), "file replaced") })
	later := fmt.Sprintf(`{"entity":"TD","bytes":40,"ts":%d}`+"\n", start.Add((history+9)*slotLength).UnixMilli())
	if err := os.WriteFile(filepath.Join(dir, "later.jsonl"), []byte(later), 0o600); err != nil {
		t.Fatal(err)
	}
	produce("later.jsonl")
	eventually(t, "the audit", func() bool {
		lines, err := tableRows(filepath.Join(dir, "out", "j_audit"), []string{"entity", "to_status", "by", "reason"})
		return err == nil && strings.Contains(strings.Join(lines, "\n"), "TD | VERIFIED | ann | verdict")
	})
	kill()
	if err := os.WriteFile(filepath.Join(dir, "verdicts.jsonl"), nil, 0o600); err != nil { // the register knows
		t.Fatal(err)
	}
	base, kill = begin()
	defer kill()
	eventually(t, "the anomaly after a restart", func() bool {
		body := listed(base)
		return strings.Contains(body, uuid) && strings.Contains(body, `"status":"VERIFIED"`)
	})
}

// TestCountSamples: every kind of a sample has a metric.
func TestCountSamples(t *testing.T) {
	registry := newRegistry()
	count, err := countSamples(registry, "j")
	if err != nil {
		t.Fatal(err)
	}
	all := map[traffic.Kind]int64{}
	for i, k := range traffic.Kinds() {
		all[k] = int64(i + 1)
	}
	count(all)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == "tidemark_traffic_samples_total" {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	if n := float64(len(traffic.Kinds())); sum != n*(n+1)/2 {
		t.Errorf("%v samples", sum)
	}
	if _, err := countSamples(registry, "j"); err == nil {
		t.Error("two jobs of one name")
	}
}

// TestFindingSchemas: what the register says is what the mapper of findings reads.
func TestFindingSchemas(t *testing.T) {
	got, want := traffic.FindingSchema().Fields(), trafficfeed.FindingSchema().Fields()
	for i, f := range want {
		if !got[i].Equal(f) {
			t.Errorf("column %d: %v, want %v", i, got[i], f)
		}
	}
}
