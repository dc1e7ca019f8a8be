package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

// replayProgress says how far a replay is: a bar on a terminal, a line in 10 s elsewhere. What it
// knows is as of the last checkpoint.
type replayProgress struct {
	plan replayPlan
	w    io.Writer

	mu    sync.Mutex
	first progressSample // of this process
	last  progressSample
	mark  int64
	late  int64
}

// progressSample is how many records were read at a time.
type progressSample struct {
	at   time.Time
	read int64
	left int64
}

func newReplayProgress(plan replayPlan, w io.Writer) *replayProgress {
	return &replayProgress{plan: plan, w: w, mark: pipeline.MinTicks}
}

// take notes a checkpoint.
func (p *replayProgress) take(c pipeline.Published) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := progressSample{at: time.Now()}
	p.late = 0
	ends := map[int32]int64{}
	for _, part := range p.plan.Splits {
		ends[part.Partition] = part.Expect
	}
	for _, sp := range c.Splits {
		s.read += sp.Counts[pipeline.Read]
		p.late += sp.Counts[pipeline.FateLate]
		if !sp.Ended {
			s.left += max(0, ends[sp.Split.Partition]-sp.Position.Offset)
		}
	}
	if p.first.at.IsZero() {
		p.first = s
	}
	p.last, p.mark = s, c.Merged.Event
}

// line says it in one line.
func (p *replayProgress) line(barred bool) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last.at.IsZero() {
		return fmt.Sprintf("replay %s: begins", p.plan.Name)
	}
	share := 1.0
	if all := p.last.read + p.last.left; all > 0 {
		share = float64(p.last.read) / float64(all)
	}
	text := fmt.Sprintf("%3.0f %% of about %d records, %d late", 100*share, p.last.read+p.last.left, p.late)
	if took := p.last.at.Sub(p.first.at).Seconds(); took > 0 && p.last.read > p.first.read {
		rate := float64(p.last.read-p.first.read) / took
		text += fmt.Sprintf(", %.0f/s, %v left", rate, time.Duration(float64(p.last.left)/rate*float64(time.Second)).Round(time.Second))
	}
	if at := markTime(p.mark); at != nil {
		text += ", at " + at.Format("2006-01-02 15:04:05")
	}
	if barred {
		return fmt.Sprintf("[%s] %s", bar(share, 24), text)
	}
	return fmt.Sprintf("replay %s: %s", p.plan.Name, text)
}

// show runs what makes the replay and says meanwhile how far it is.
func (p *replayProgress) show(ctx context.Context, run func() error) error {
	done := make(chan error, 1)
	go func() { done <- run() }()
	terminal, every := isTerminal(p.w), 10*time.Second
	if terminal {
		every = time.Second
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case err := <-done:
			if terminal {
				fmt.Fprintln(p.w)
			}
			return err
		case <-t.C:
			if terminal {
				fmt.Fprintf(p.w, "\r\x1b[K%s", p.line(true))
				continue
			}
			fmt.Fprintln(p.w, p.line(false))
		}
	}
}
