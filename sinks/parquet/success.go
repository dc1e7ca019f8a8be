package parquet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"

	"github.com/tidemark/tidemark/pipeline"
)

// successName is the marker of a complete partition, in its folder.
const successName = "_SUCCESS"

// completion is a partition that an epoch completes, or that was complete and has new
// files: what its marker says from then on.
type completion struct {
	Partition string `json:"partition"`
	Revision  int64  `json:"revision"`
	Watermark int64  `json:"watermark_us"`
	tally
}

// success is the content of a marker. Revision counts its contents, from 1 on: a reader
// that has seen a smaller one reads the partition again.
type success struct {
	Revision  int64 `json:"revision"`
	Watermark int64 `json:"watermark_us"`
	tally
	Job     string `json:"job"`
	Lineage uint16 `json:"lineage"`
	Epoch   int64  `json:"epoch"`
}

// next is the marker after old, which is zero when there was none. A mark that fell with a
// rewind takes nothing back: what was complete stays so.
func (old success) next(partition string, added tally, at int64) completion {
	if old.Revision > 0 {
		at = max(at, old.Watermark)
	}
	return completion{partition, old.Revision + 1, at, old.plus(added)}
}

func (s *Sink) markerName(partition string) string {
	return path.Join(folder(s.cfg.Table), partition, successName)
}

// marker reads the marker of a partition, zero when there is none.
func (s *Sink) marker(ctx context.Context, partition string) (success, error) {
	var m success
	name := s.markerName(partition)
	body, err := s.store.GetRange(ctx, name, 0, -1)
	if errors.Is(err, pipeline.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(body, &m); err != nil || m.Revision < 1 {
		return m, fmt.Errorf("%s is not as it was written (%.80q): remove it; the partition is then counted anew", name, body)
	}
	if m.Job != s.cfg.Job {
		return m, fmt.Errorf("%s is of job %s, this is job %s: a partition that two jobs write cannot be complete for one of them; give each job a table of its own", name, m.Job, s.cfg.Job)
	}
	return m, nil
}

// mark puts the marker of a partition, unless that of a later epoch is there.
func (s *Sink) mark(ctx context.Context, r receipt, c completion) error {
	old, err := s.marker(ctx, c.Partition)
	if err != nil {
		return err
	}
	want := success{c.Revision, c.Watermark, c.tally, r.Job, r.Lineage, r.Epoch}
	switch {
	case old == want, old.Revision > 0 && before(r.Lineage, r.Epoch, old.Lineage, old.Epoch):
		return nil
	case old.Lineage == r.Lineage && old.Epoch == r.Epoch && old.Revision > 0:
		return fmt.Errorf("%s differs from the receipt of the same epoch: another writer uses the same job name and lineage: stop it, compare, move the marker away and start again", s.markerName(c.Partition))
	}
	body, err := json.Marshal(want)
	if err != nil {
		return fmt.Errorf("marker: %w", err)
	}
	return s.store.Put(ctx, s.markerName(c.Partition), append(bytes.TrimSpace(body), '\n'))
}
