package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

// status is what the program knows of its jobs: the last checkpoint of each, where every
// row read has a fate.
type status struct {
	mu   sync.Mutex
	jobs []*jobStatus
	live liveView
	// radar serves the anomalies of the last job that has any; nil for none.
	radar http.Handler
}

// serveRadar serves anomalies, once a job has them.
func (s *status) serveRadar(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	h := s.radar
	s.mu.Unlock()
	if h == nil {
		http.NotFound(w, r)
		return
	}
	h.ServeHTTP(w, r)
}

// jobStatus is the state of one job, as /api/v1/status shows it.
type jobStatus struct {
	Job      string           `json:"job"`
	Started  time.Time        `json:"started"`
	Epoch    int64            `json:"epoch"`
	At       time.Time        `json:"checkpoint_at"`
	Interval time.Duration    `json:"checkpoint_interval_ns"`
	Took     time.Duration    `json:"checkpoint_took_ns"`
	Bytes    int64            `json:"checkpoint_bytes"`
	Rows     map[string]int64 `json:"rows"` // by fate
	PerSec   float64          `json:"rows_read_per_second"`
	Mark     *time.Time       `json:"mark"` // merged event mark, null before the first
	Ingest   *time.Time       `json:"ingest_mark"`
	Holder   string           `json:"mark_held_by"`
	Since    *time.Time       `json:"mark_since"` // when the mark rose last, by the wall clock
	Splits   []splitStatus    `json:"splits"`
	Sinks    []sinkStatus     `json:"sinks"`
	Open     int              `json:"open_windows"`
	Pause    time.Duration    `json:"longest_pause_ns"` // at a barrier
	// References are the reference tables in use.
	References []referenceStatus `json:"references,omitempty"`

	refs   *references
	counts pipeline.Counts
	most   int // open windows at any barrier
}

type splitStatus struct {
	Split  string           `json:"split"`
	Offset int64            `json:"offset"`
	Mark   *time.Time       `json:"mark"`
	Quiet  bool             `json:"quiet"`
	Rows   map[string]int64 `json:"rows"`
}

type sinkStatus struct {
	Name string `json:"sink"`
	Rows int64  `json:"rows_published"`
}

func newStatus() *status { return &status{} }

// build builds a job that reports here.
func (s *status) build(cfg Config, deps jobDeps) (pipeline.Job, func() error, error) {
	js := &jobStatus{Job: cfg.Job, Started: time.Now(), Interval: cfg.Checkpoint.Interval, At: time.Now(), refs: deps.references}
	deps.live = &s.live
	then := deps.onCheckpoint
	deps.onCheckpoint = func(p pipeline.Published) {
		s.mu.Lock()
		js.take(p)
		s.mu.Unlock()
		if then != nil {
			then(p)
		}
	}
	job, closeJob, err := buildJob(cfg, deps)
	if err != nil {
		return pipeline.Job{}, nil, err
	}
	s.mu.Lock()
	s.jobs = append(s.jobs, js)
	if h := cfg.radar(); h != nil {
		s.radar = h
	}
	s.mu.Unlock()
	return job, closeJob, nil
}

// setInterval notes that checkpoints of a job come otherwise from now on.
func (s *status) setInterval(job string, every time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		if j.Job == job {
			j.Interval = every
		}
	}
}

func (j *jobStatus) take(p pipeline.Published) {
	now := time.Now()
	before := j.counts[pipeline.Read]
	j.counts = pipeline.Counts{}
	j.Splits = j.Splits[:0]
	for _, sp := range p.Splits {
		j.counts.Add(sp.Counts)
		j.Splits = append(j.Splits, splitStatus{Split: sp.Split.String(), Offset: sp.Position.Offset, Mark: markTime(sp.Mark.Event),
			Quiet: sp.Quiet, Rows: byFate(sp.Counts)})
	}
	if j.Epoch > 0 {
		j.PerSec = float64(j.counts[pipeline.Read]-before) / now.Sub(j.At).Seconds()
	}
	j.Epoch, j.At, j.Took, j.Bytes = p.Epoch, now, p.Took, p.Bytes
	j.Pause, j.most = max(j.Pause, p.Pause), max(j.most, p.Open)
	j.Rows, j.Holder, j.Open = byFate(j.counts), "", p.Open
	j.Mark, j.Ingest = markTime(p.Merged.Event), markTime(p.Merged.Ingest)
	j.Since = markTime(p.Since)
	if p.Holder >= 0 && int(p.Holder) < len(p.Splits) {
		j.Holder = p.Splits[p.Holder].Split.String()
	}
	for name, n := range p.Rows {
		i := slices.IndexFunc(j.Sinks, func(s sinkStatus) bool { return s.Name == name })
		if i < 0 {
			j.Sinks = append(j.Sinks, sinkStatus{Name: name})
			slices.SortFunc(j.Sinks, func(a, b sinkStatus) int { return strings.Compare(a.Name, b.Name) })
			i = slices.IndexFunc(j.Sinks, func(s sinkStatus) bool { return s.Name == name })
		}
		j.Sinks[i].Rows += n
	}
}

func byFate(c pipeline.Counts) map[string]int64 {
	m := map[string]int64{}
	for f := range pipeline.NumFates {
		m[f.String()] = c[f]
	}
	return m
}

// markTime returns a mark as a time, nil at either end.
func markTime(t int64) *time.Time {
	if t == pipeline.MinTicks || t == pipeline.MaxTicks {
		return nil
	}
	at := time.UnixMicro(t).UTC()
	return &at
}

// snapshot returns copies.
func (s *status) snapshot() []jobStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []jobStatus{} // not null in JSON
	for _, j := range s.jobs {
		c := *j
		c.Splits, c.Sinks = slices.Clone(j.Splits), slices.Clone(j.Sinks)
		c.References = j.refs.status()
		out = append(out, c)
	}
	return out
}

// stands is how long a mark may stand before a line says so.
const stands = 10 * time.Second

// brief is a job in a third of a line.
func (j jobStatus) brief() string {
	return fmt.Sprintf("%s %d (%.0f/s)", j.Job, j.counts[pipeline.Read], j.PerSec)
}

// line is a job in one line.
func (j jobStatus) line() string {
	mark := "no mark yet"
	if j.Mark != nil {
		mark = "mark " + j.Mark.Format("2006-01-02 15:04:05")
		if j.Holder != "" {
			mark += " held by " + j.Holder
			if j.Since != nil && j.At.Sub(*j.Since) > stands {
				mark += " for " + j.At.Sub(*j.Since).Round(time.Second).String()
			}
		}
	}
	return fmt.Sprintf("%s: read %d (%.0f/s), late %d, dead %d, %s, checkpoint %d", j.Job, j.counts[pipeline.Read], j.PerSec,
		j.counts[pipeline.FateLate], j.counts[pipeline.FateDead], mark, j.Epoch)
}

// summary prints the conservation line over all jobs.
func (s *status) summary(w io.Writer) {
	var all pipeline.Counts
	open := 0
	for _, j := range s.snapshot() {
		all.Add(j.counts)
		open += j.Open
	}
	fmt.Fprintln(w, conservation(all, open))
}

// conservation is the line by which every row read is accounted for.
func conservation(c pipeline.Counts, open int) string {
	return fmt.Sprintf("rows in %d = aggregated %d + late %d + dead %d + filtered %d + duplicate %d (open windows %d)",
		c[pipeline.Read], c[pipeline.Aggregated], c[pipeline.FateLate], c[pipeline.FateDead], c[pipeline.Filtered], c[pipeline.Duplicate], open)
}
