package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

// A changeClass says what a change of a setting takes, given the state of the job that had
// it otherwise.
type changeClass int

const (
	live       changeClass = iota // nothing: a reload does
	restart                       // a restart: the job goes on from its checkpoint
	newLineage                    // the state is of no use, or would make results that are wrong
)

func (c changeClass) String() string {
	return [...]string{"live", "takes effect at a restart", "needs a new lineage"}[c]
}

// changeClasses gives every setting its class. A list or a map is one setting, the list of
// sinks excepted. TestClasses wants every setting here, TestRestartKeepsState tries those of
// windows.
//
// Restart is what decides about rows to come and leaves alone what was decided before. A
// setting is newLineage when the operators refuse the old state; when it would take rows for
// windows that are closed and forgotten, so that a part of a result would replace the whole;
// or when it changes the names or the columns of results, so that old ones would never be
// replaced.
var changeClasses = []struct {
	class    changeClass
	section  string
	settings string
}{
	{live, "", "stop_timeout"},
	{live, "checkpoint", "interval keep"},

	{restart, "checkpoint", "dir owner"},
	{restart, "checkpoint.s3", "endpoint region path_style attempt_timeout max_attempts"},
	{restart, "decisions", "off keep max_bytes"},
	{restart, "http", "listen token_file"},
	{restart, "parallelism", "shards decoders"},
	{restart, "source.kafka", "brokers client_id dial_timeout start start_time on_gap group bounded buffer_bytes fetch_max_bytes " +
		"max_batch_bytes decompress_limit fetch_wait discover_every stall_after open_timeout"},
	{restart, "source.kafka.tls", "enabled ca_file cert_file key_file server_name insecure_skip_verify"},
	{restart, "source.kafka.sasl", "mechanism user"},
	{restart, "event_time", "max_disorder max_ahead future missing missing_bound align quiet_after on_all_quiet idle_after"},
	{restart, "limits", "max_record_bytes raw_bytes json_depth json_keys string_bytes"},
	{restart, "state", "max_bytes max_key_windows over_limit"},
	{restart, "dedupe", "within"},
	{restart, "window", "late_rows late_delay emit_delay"},
	{restart, "sinks.parquet", "dir table layout partition_by time_column sort_by codec row_group_rows verify max_stage_rows max_stage_bytes"},
	{restart, "sinks.parquet.s3", "endpoint region path_style attempt_timeout max_attempts"},
	{restart, "sinks.parquet.security_lake", "source region account account_column roll roll_bytes"},
	{restart, "sinks.kafka", "brokers client_id dial_timeout topic create partitions format key compression batch_bytes attempt_timeout"},
	{restart, "sinks.kafka.tls", "enabled ca_file cert_file key_file server_name insecure_skip_verify"},
	{restart, "sinks.kafka.sasl", "mechanism user"},
	{restart, "sinks.clickhouse", "url database table user ca_file delivery create cluster replicated append partition_by time_column " +
		"order_by low_cardinality ttl_days commit_every audit_keys audit_every block_rows attempt_timeout dedup_window max_stage_rows " +
		"max_stage_bytes max_pending_bytes"},

	{restart, "power", "inventory join interval forget raise clear clear_share worse continuous_for imbalance_pct imbalance_min_a energy_pct"},
	{restart, "notify", "policies allow_networks link max_age retry_for attempt_timeout"},
	{restart, "notify.smtp", "host port tls user from"},
	{restart, "mapping", "file mode input preprocessor source source_field utc_day on_invalid schemas columns"},
	{restart, "assets", "fences gateways registry accept_unknown forget_after"},
	{restart, "assets.clocks", "correct limit records max_age burst_records burst_within burst_span max_gateways"},
	{restart, "assets.nearest", "window alpha margin_db windows unheard weakest_dbm accuracy_m"},
	{restart, "assets.geofence", "in_margin_m out_margin_m enter_fixes enter_time exit_fixes exit_time max_accuracy_m max_speed_mps lost_after dwell"},
	{restart, "assets.movement", "apart far_m speed_mps still near_m"},
	{restart, "assets.bottom", "rest_mg still_mg down_deg up_deg samples time"},
	{restart, "assets.transit", "move_within shortest silence"},
	{restart, "assets.availability", "offline settled hold depots"},
	{restart, "assets.battery", "warm_c low_mv days full_mv rise_mv"},
	{restart, "traffic", "absent collector_fault keep bootstrap verdicts names"},
	{restart, "traffic.counters", "bits max_bps max_gap policy"},
	{restart, "traffic.detector", "sustained point closing least_drop replace"},
	{restart, "traffic.eligibility", "median p5 leave leave_days"},
	{restart, "traffic.merge", "gap auto_verify_sources quorum"},
	{newLineage, "", "job feed format fields filter reference rows"},
	{newLineage, "source.kafka", "topic"},
	{newLineage, "event_time", "scope max_offline"},
	{newLineage, "dedupe", "columns"},
	{newLineage, "window", "id tumbling global offset zone lateness trigger discard max_age skip_unchanged retract key aggregates fingerprints"},
	{newLineage, "window.hopping", "size slide"},
	{newLineage, "window.cumulate", "size step"},
	{newLineage, "window.session", "gap gap_column touch max_length"},
	{newLineage, "window.early", "rows delay aligned every"},
	{newLineage, "window.then", "tumbling offset zone aggregates"},
	{newLineage, "window.then.hopping", "size slide"},
	{newLineage, "window.then.cumulate", "size step"},
	{newLineage, "traffic", "input entity signal value"},
	{newLineage, "traffic.counters", "key"},
	{newLineage, "normalize", "to dialect version extension_uid"},
}

// milder are the changes of settings of class newLineage that a restart does for.
var milder = map[string]func(was, is string, cfg Config) bool{
	// Windows that are closed stay closed: only a shorter wait forgets nothing too early.
	"window.lateness":        shorter,
	"window.max_age":         shorter,
	"event_time.max_offline": func(was, is string, cfg Config) bool { return cfg.EventTime.Scope != ScopeKey || shorter(was, is, cfg) },
	// The bounds of the new windows are bounds of slices that the state has.
	"window.hopping.slide": func(was, is string, _ Config) bool {
		old, oerr := time.ParseDuration(was)
		slide, err := time.ParseDuration(is)
		return oerr == nil && err == nil && old > 0 && slide%old == 0
	},
	// Early rules decide whether windows that overlap share slices.
	"window.early.rows":    aparts,
	"window.early.delay":   aparts,
	"window.early.aligned": aparts,
	"window.early.every":   aparts,
	// The state of an operator has its place in the chain: a filter that comes or goes moves
	// those behind it.
	"filter": func(was, is string, _ Config) bool { return was != "" && is != "" },
	// A file may be anywhere; what is in it is compared by the table itself.
	"reference": func(was, is string, _ Config) bool { return withoutFiles(was) == withoutFiles(is) },
}

func shorter(was, is string, _ Config) bool {
	old, oerr := time.ParseDuration(was)
	now, err := time.ParseDuration(is)
	return oerr == nil && err == nil && now <= old
}

func aparts(_, _ string, cfg Config) bool {
	return cfg.Window.Hopping == nil && cfg.Window.Cumulate == nil
}

// withoutFiles leaves out of a list of reference tables what may change.
func withoutFiles(text string) string {
	var tables []map[string]any
	if json.Unmarshal([]byte(text), &tables) != nil {
		return text
	}
	for _, t := range tables {
		delete(t, "file")
		delete(t, "missing")
	}
	b, err := json.Marshal(tables)
	if err != nil {
		return text
	}
	return string(b)
}

// A setting is a leaf of the configuration.
type setting struct {
	// path names it in the file; a sink has the name of its table in the place of its number,
	// sinks[parquet out/ble].codec, so that its place in the list does not matter.
	path  string
	node  []string // of the file
	value string
}

// pattern is the path as changeClasses has it.
func (s setting) pattern() string {
	rest, ok := strings.CutPrefix(s.path, "sinks[")
	if !ok {
		return s.path
	}
	kind, _, _ := strings.Cut(rest, " ")
	return "sinks." + kind + rest[strings.LastIndexByte(rest, ']')+1:]
}

// settings returns every setting of a configuration but the secrets, in the order of Config.
func settings(cfg Config) []setting {
	var out []setting
	for _, f := range yamlFields(reflect.ValueOf(cfg)) {
		if f.name != "sinks" {
			out = leaves(out, f.value, f.name, []string{f.name})
			continue
		}
		for i, s := range cfg.Sinks {
			out = leaves(out, reflect.ValueOf(s), "sinks["+s.name()+"]", []string{"sinks", fmt.Sprint(i)})
		}
	}
	return out
}

// name tells the sinks of a job apart.
func (s SinkConfig) name() string {
	switch {
	case s.Parquet != nil:
		return "parquet " + below(s.Parquet.Dir, s.Parquet.Table)
	case s.Kafka != nil:
		return "kafka " + s.Kafka.Topic
	}
	return "clickhouse " + s.ClickHouse.Database + "." + s.ClickHouse.Table
}

// leaves appends the settings below v. A section that is absent has none.
func leaves(out []setting, v reflect.Value, path string, node []string) []setting {
	if v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct {
		if v.IsNil() {
			return out
		}
		v = v.Elem()
	}
	switch {
	case isSecret(v.Type()):
		return out
	case v.Kind() != reflect.Struct || v.Type() == timeType:
		return append(out, setting{path, node, shown(v)})
	}
	for _, f := range yamlFields(v) {
		at := path + "." + f.name
		if _, sink := v.Interface().(SinkConfig); sink {
			at = path // its name says the kind
		}
		out = leaves(out, f.value, at, append(slices.Clip(node), f.name))
	}
	return out
}

type yamlField struct {
	name  string
	value reflect.Value
}

// yamlFields are the fields of a struct by their names in the file, in order.
func yamlFields(v reflect.Value) []yamlField {
	var out []yamlField
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case opts == "inline":
			out = append(out, yamlFields(v.Field(i))...)
		case name != "-" && f.IsExported():
			out = append(out, yamlField{cmp.Or(name, strings.ToLower(f.Name)), v.Field(i)})
		}
	}
	return out
}

// shown is the text of a setting: that of a scalar, or JSON.
func shown(v reflect.Value) string {
	p := plain(v)
	if s, ok := p.(string); ok {
		return s
	}
	b, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("setting %v: %v", p, err)) // texts, lists and maps of them always can
	}
	return string(b)
}

// plain makes texts, lists and maps of a value. What a struct in a list does not set is left
// out, so that a setting that a later version adds changes no text.
func plain(v reflect.Value) any {
	switch {
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			return ""
		}
		return plain(v.Elem())
	case v.Type() == timeType:
		if t := v.Interface().(time.Time); !t.IsZero() {
			return t.UTC().Format(time.RFC3339Nano)
		}
		return ""
	case v.Kind() == reflect.Slice:
		list := []any{}
		for i := range v.Len() {
			list = append(list, plain(v.Index(i)))
		}
		return list
	case v.Kind() == reflect.Map:
		m := map[string]any{}
		for _, k := range v.MapKeys() {
			m[k.String()] = plain(v.MapIndex(k))
		}
		return m
	case v.Kind() == reflect.Struct:
		m := map[string]any{}
		for _, f := range yamlFields(v) {
			if !f.value.IsZero() && !isSecret(f.value.Type()) {
				m[f.name] = plain(f.value)
			}
		}
		return m
	}
	return fmt.Sprint(v.Interface())
}

// canonical is a configuration as checkpoints keep it: every setting by its path.
func canonical(cfg Config) (json.RawMessage, error) {
	m := map[string]string{}
	for _, s := range settings(cfg) {
		m[s.path] = s.value
	}
	return json.Marshal(m)
}

// A change is a setting that is not what it was.
type change struct {
	setting // as it is; value is empty and gone set when it is no more
	was     string
	fresh   bool // it was not there
	gone    bool
	class   changeClass
}

func (c change) String() string {
	switch {
	case c.fresh:
		return fmt.Sprintf("%s: is %s, was not set", c.path, quoteEmpty(c.value))
	case c.gone:
		return fmt.Sprintf("%s: was %s, is not set", c.path, quoteEmpty(c.was))
	}
	return fmt.Sprintf("%s: was %s, is %s", c.path, quoteEmpty(c.was), quoteEmpty(c.value))
}

func quoteEmpty(s string) string { return cmp.Or(s, `""`) }

// changes compares a configuration with a canonical one, setting by setting.
func changes(old json.RawMessage, cfg Config) ([]change, error) {
	was := map[string]string{}
	if err := json.Unmarshal(old, &was); err != nil {
		return nil, fmt.Errorf("configuration of the checkpoint: %w", err)
	}
	now, defaults := settings(cfg), map[string]string{}
	for _, s := range settings(DefaultConfig()) {
		defaults[s.path] = s.value
	}
	sections := map[string]bool{}
	for path := range was {
		sections[section(path)] = true
	}
	var out []change
	for _, s := range now {
		old, there := was[s.path]
		delete(was, s.path)
		if !there && sections[section(s.path)] {
			old, there = defaults[s.path] // the version that wrote the checkpoint did not know it
			there = there || s.value == "" || s.value == "0" || s.value == "0s" || s.value == "false" || s.value == "[]" || s.value == "{}"
			old = cmp.Or(old, s.value)
		}
		if !there || old != s.value {
			out = append(out, change{setting: s, was: old, fresh: !there})
		}
	}
	present := map[string]bool{}
	for _, s := range now {
		present[section(s.path)] = true
	}
	for _, path := range slices.Sorted(maps.Keys(was)) {
		if !present[section(path)] { // else this version does not know the setting any more
			node := strings.Split(section(path), ".")
			if strings.HasPrefix(path, "sinks[") {
				node = []string{"sinks"}
			}
			out = append(out, change{setting: setting{path: path, node: node}, was: was[path], gone: true})
		}
	}
	for i := range out {
		out[i].class = classOf(out[i], cfg)
	}
	return out, nil
}

// section is a path without its last word.
func section(path string) string { return path[:max(0, strings.LastIndexByte(path, '.'))] }

func classOf(c change, cfg Config) changeClass {
	at := c.pattern()
	for _, row := range changeClasses {
		if row.section == section(at) && slices.Contains(strings.Fields(row.settings), at[strings.LastIndexByte(at, '.')+1:]) {
			if m := milder[at]; row.class == newLineage && m != nil && !c.fresh && !c.gone && m(c.was, c.value, cfg) {
				return restart
			}
			return row.class
		}
	}
	return newLineage // only a setting of another version has none
}

// jobFile is the file of a job and what it says.
type jobFile struct {
	doc *document
	cfg Config
}

// refusal names the changes at their places, and the next step.
func (f jobFile) refusal(found []change, next string) error {
	var d document
	d.path = f.doc.path
	for _, c := range found {
		n := f.doc.node(c.node...)
		d.problems = append(d.problems, problem{n.Line, n.Column, c.path, fmt.Sprintf("%v: %v", c, c.class)})
	}
	var lines []string
	if err, ok := d.err().(*configError); ok {
		lines = err.lines
	}
	return &configError{append(lines, d.path+": "+next)}
}

// accept tells whether the job can go on from a checkpoint, and says what has changed.
func (f jobFile) accept(log *slog.Logger) func(*pipeline.Checkpoint) error {
	return func(cp *pipeline.Checkpoint) error {
		if len(cp.Config) == 0 {
			log.Warn("the checkpoint does not say with which settings it was made: it was written by an older version", "epoch", cp.Epoch)
			return nil
		}
		found, err := changes(cp.Config, f.cfg)
		if err != nil {
			return fmt.Errorf("checkpoint %d: %w", cp.Epoch, err)
		}
		refused := slices.DeleteFunc(slices.Clone(found), func(c change) bool { return c.class != newLineage })
		if len(refused) > 0 {
			return f.refusal(refused, fmt.Sprintf("checkpoint %d was made with other settings, and its state is of no use to these: put them back, "+
				"or start over from source.start, so that new results replace the old ones, with `tidemark run -f %s --new-lineage`", cp.Epoch, f.doc.path))
		}
		for _, c := range found {
			log.Info("setting changed since the checkpoint", "setting", c.path, "was", c.was, "is", c.value)
		}
		return nil
	}
}
