package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/operators/power"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/schemas/ocsf"
	"github.com/tidemark/tidemark/schemas/pdu"
)

// PowerConfig is section power of a job: it judges the readings of PDUs. Results are findings;
// table <table>_load has the load of every PDU at every instant.
type PowerConfig struct {
	// Inventory is the file with the PDUs, devices and silences, .yaml or .csv. Without one limits
	// are what readings say (rated_a), and there is no redundancy.
	Inventory string `yaml:"inventory"`
	// Join is how far apart readings of one instant may be; Interval how often a PDU is read;
	// Forget when one that is silent is forgotten.
	Join     time.Duration `yaml:"join"`
	Interval time.Duration `yaml:"interval"`
	Forget   time.Duration `yaml:"forget"`
	// Raise and Clear are how many readings in a row make a finding and end it, ClearShare the
	// part of the limit that they must be under for that.
	Raise      int     `yaml:"raise"`
	Clear      int     `yaml:"clear"`
	ClearShare float64 `yaml:"clear_share"`
	// Worse is the part of the limit by which a reading must be above what was told last for the
	// finding to be updated.
	Worse float64 `yaml:"worse"`
	// ContinuousFor is how long a breaker may be above its continuous part.
	ContinuousFor time.Duration `yaml:"continuous_for"`
	// ImbalancePct is the limit of the imbalance by NEMA, 0 for none, where the mean current is
	// ImbalanceMinA or more; EnergyPct that of counter and power in an hour.
	ImbalancePct  float64 `yaml:"imbalance_pct"`
	ImbalanceMinA float64 `yaml:"imbalance_min_a"`
	EnergyPct     float64 `yaml:"energy_pct"`
}

func (c *PowerConfig) setDefaults() {
	d := power.DefaultConfig()
	*c = PowerConfig{
		Join: durationOf(d.Join), Interval: durationOf(d.Interval), Forget: durationOf(d.Forget),
		Raise: d.Over.Raise, Clear: d.Over.Clear, ClearShare: d.Over.ClearShare, Worse: d.Over.Worse, ContinuousFor: durationOf(d.Continuous.For),
		ImbalancePct: d.ImbalancePct, ImbalanceMinA: d.ImbalanceMinA, EnergyPct: d.EnergyPct,
	}
}

func (c *PowerConfig) feed() string { return "pdu" }

// Validate returns every problem.
func (c *PowerConfig) Validate() error {
	errs := []error{c.config().Validate()}
	if ext := filepath.Ext(c.Inventory); c.Inventory != "" && !slices.Contains([]string{".yaml", ".yml", ".csv"}, ext) {
		errs = append(errs, fmt.Errorf("inventory %q: want the name of a .yaml or .csv file", c.Inventory))
	}
	return errors.Join(errs...)
}

// config is that of the judge.
func (c *PowerConfig) config() power.Config {
	out := power.DefaultConfig()
	out.Join, out.Interval, out.Forget = pipeline.Ticks(c.Join), pipeline.Ticks(c.Interval), pipeline.Ticks(c.Forget)
	for _, a := range []*power.AlarmConfig{&out.Over, &out.Continuous, &out.Imbalance, &out.Redundancy} {
		a.Raise, a.Clear, a.ClearShare, a.Worse = c.Raise, c.Clear, c.ClearShare, c.Worse
	}
	out.Continuous.For = pipeline.Ticks(c.ContinuousFor)
	out.ImbalancePct, out.ImbalanceMinA, out.EnergyPct = c.ImbalancePct, c.ImbalanceMinA, c.EnergyPct
	return out
}

// inventoryFile is the name of the inventory among a job's files.
const inventoryFile = "power.inventory"

func (c *PowerConfig) domain(job *Config) domain {
	d := domain{
		work:     "loads and findings by PDU",
		key:      []string{"pdu_id"},
		oneShard: true, // what a feed must carry when the other fails goes across PDUs
		tables: []domainTable{
			{schema: pdu.FindingSchema(), sortBy: []string{"time", "finding_uid", "n"}, timeColumn: "time", mapper: powerMapper, live: 60},
			{suffix: "load", schema: power.LoadSchema(), sortBy: []string{"pdu_id", "time"}, timeColumn: "time", live: 60, liveBy: []string{"pdu_id"}},
		},
		build: func(rows *arrow.Schema, values map[string]any, seed uint64, mem memory.Allocator) ([]pipeline.Operator, error) {
			return c.build(rows, values, seed, job.keyedBytes(1), mem)
		},
	}
	if c.Inventory != "" {
		d.files = []domainFile{{inventoryFile, c.Inventory, func(b []byte) (any, error) {
			return parseInventory(c.Inventory, b, power.DefaultPDU(""))
		}}}
	}
	return d
}

func powerMapper(base ocsf.Config, in *arrow.Schema) (*ocsf.Mapper, error) {
	cfg := pdu.DefaultFindingConfig()
	cfg.Config = base
	return pdu.NewFindingMapper(cfg, in)
}

// build makes the operator of the job.
func (c *PowerConfig) build(rows *arrow.Schema, values map[string]any, seed uint64, maxBytes int64, mem memory.Allocator) ([]pipeline.Operator, error) {
	inv, ok := values[inventoryFile].(*power.Inventory)
	if !ok { // none is named, or it is not read yet
		inv, _ = power.NewInventory(power.Entries{Other: power.DefaultPDU("")}, "")
	}
	m, err := power.NewMachine(c.config(), inv, rows, pdu.FindingSchema(), mem)
	if err != nil {
		return nil, err
	}
	cfg := operators.KeyedConfig[power.Group]{Key: []string{"pdu_id"}, Seed: seed, Append: power.AppendGroup, Read: power.ReadGroup, MaxBytes: maxBytes}
	k, err := operators.NewKeyed(cfg, m, rows, mem)
	if err != nil {
		return nil, err
	}
	return []pipeline.Operator{k}, nil
}
