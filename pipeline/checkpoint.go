package pipeline

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/cespare/xxhash/v2"

	"github.com/tidemark/tidemark/pipeline/crash"
)

// CheckpointFormat is the version of the files below; a reader refuses a higher one. 1 had the
// object CURRENT in place of the commits, 2 no piece of the front.
const CheckpointFormat = 3

// ErrCheckpoint says that a checkpoint cannot be used.
var ErrCheckpoint = errors.New("checkpoint unusable")

// Checkpoint is everything a job needs to go on: where every split is, the marks, the
// counts, the receipts of the epoch that ended with it, and where the state lies.
type Checkpoint struct {
	Job     string
	Lineage uint16
	Epoch   int64
	// Seed of the key hash; it decides key groups.
	Seed   uint64
	Splits []SplitState
	Merged Mark
	// Newest is the largest event mark that the rows of any split have given.
	Newest   int64
	Moves    []Move
	Gaps     []Gap
	Receipts []SinkReceipt
	Pieces   []PieceRef
	// Files are the files that the checkpoint consists of, state included.
	Files []FileRef
	// Config is the configuration that the state was made with, as Job.Config; nil when an
	// older program wrote the checkpoint.
	Config json.RawMessage
	// Last says that the job stops with it: its lease ends.
	Last bool
}

// Ended tells whether every split was bounded and was read to its end.
func (cp *Checkpoint) Ended() bool {
	return len(cp.Splits) > 0 && !slices.ContainsFunc(cp.Splits, func(s SplitState) bool { return !s.Ended })
}

// SinkReceipt is a receipt with the name of its sink.
type SinkReceipt struct {
	Sink    string
	Receipt Receipt
}

// PieceRef says where a piece of state lies.
type PieceRef struct {
	Op    int    `json:"op"` // its place in the chain, or FrontOp
	ID    string `json:"id"`
	Shard int    `json:"shard"`
	File  string `json:"file"`
	Batch int    `json:"batch"`
}

// FileRef names a file with its checksum (XXH64).
type FileRef struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	Sum  string `json:"xxh64"`
}

// manifest is manifest.json, the root of a checkpoint.
type manifest struct {
	Format  int        `json:"format"`
	Job     string     `json:"job"`
	Lineage uint16     `json:"lineage"`
	Epoch   int64      `json:"epoch"`
	Seed    string     `json:"seed"`
	Event   int64      `json:"event_mark"`
	Ingest  int64      `json:"ingest_mark"`
	Newest  int64      `json:"newest_mark,omitempty"` // 0: none, or an older program wrote it
	Pieces  []PieceRef `json:"pieces"`
	Files   []FileRef  `json:"files"`

	Config json.RawMessage `json:"config,omitempty"`
}

const (
	commitsDir     = "commits"
	currentName    = "CURRENT" // of format 1
	checkpointsDir = "checkpoints"
	stateDir       = "state"
)

// Checkpoints reads and writes the checkpoints of one job:
//
//	commits/<n>                           the newest says which one counts, and who owns the job
//	checkpoints/<epoch>/manifest.json     checksums, pieces of state, marks
//	checkpoints/<epoch>/splits.arrow      positions, marks, counts
//	checkpoints/<epoch>/moves.arrow       marks that no row moved
//	checkpoints/<epoch>/gaps.arrow        records that were gone before they were read
//	checkpoints/<epoch>/receipts.arrow    what the sinks have prepared
//	state/<lineage>-<epoch>-<op>-<shard>.arrow
//
// A state file belongs to the epoch that wrote it and to all later ones that refer to it.
type Checkpoints struct {
	store Store
	keep  int
	mem   memory.Allocator

	lease Lease
	at    int64 // number of the newest commit that was seen
}

// NewCheckpoints keeps the newest keep checkpoints, at least 1.
func NewCheckpoints(store Store, keep int, mem memory.Allocator) *Checkpoints {
	return &Checkpoints{store: store, keep: max(1, keep), mem: mem}
}

func epochDir(epoch int64) string { return fmt.Sprintf("%s/%020d", checkpointsDir, epoch) }

func sum(b []byte) string { return fmt.Sprintf("%016x", xxhash.Sum64(b)) }

// Skipped is a checkpoint that was passed over, and why.
type Skipped struct {
	Epoch int64
	Err   error
}

// Load returns the checkpoint that counts, nil when the job has none. Its lineage is the one to
// go on with. A checkpoint that is corrupt is refused, and the newest good one before it is
// taken: the job is then rewound, and the caller starts a new lineage. Skipped says what was
// passed over. When every checkpoint is unusable the error wraps ErrCheckpoint. A store that
// cannot be read says nothing of what is in it: its error is returned, and no checkpoint is
// passed over; nor is one that a newer program wrote (ErrNewer).
func (c *Checkpoints) Load(ctx context.Context) (*Checkpoint, []Skipped, error) {
	candidates, skipped, err := c.candidates(ctx)
	if err != nil {
		return nil, nil, err
	}
	refused := map[int64]bool{}
	for _, e := range candidates {
		if refused[e.Epoch] {
			continue
		}
		cp, err := c.read(ctx, e.Epoch, e.Sum)
		if err == nil && e.Sum != "" && cp.Lineage > e.Lineage {
			err = fmt.Errorf("checkpoint %d: %w: it was committed for lineage %d, it is of %d", e.Epoch, ErrCheckpoint, e.Lineage, cp.Lineage)
		}
		if err == nil {
			cp.Lineage = max(cp.Lineage, e.Lineage)
			return cp, skipped, nil
		}
		if !errors.Is(err, ErrCheckpoint) {
			return nil, nil, err
		}
		skipped, refused[e.Epoch] = append(skipped, Skipped{e.Epoch, err}), true
	}
	if len(skipped) == 0 || c.at == 0 && errors.Is(skipped[0].Err, ErrNotExist) {
		return nil, skipped, nil // no checkpoint was ever complete
	}
	var all []error
	for _, s := range skipped {
		all = append(all, s.Err)
	}
	return nil, skipped, fmt.Errorf("%w: none of %d is whole; restore the directory from a copy, or remove it to start anew: %w", ErrCheckpoint, len(skipped), errors.Join(all...))
}

// candidates returns what Load may use, the best first: what the newest commit names and, in
// case that is not whole, what the ones before name, then what no commit names any more.
// Commits that cannot be read may have named manifests newer than those of the others. A
// manifest that no commit names has no checksum.
func (c *Checkpoints) candidates(ctx context.Context) (out []commit, skipped []Skipped, err error) {
	epochs, err := c.epochs(ctx)
	if err != nil {
		return nil, nil, err
	}
	numbers, err := c.commits(ctx)
	if err != nil {
		return nil, nil, err
	}
	below := int64(math.MaxInt64) // of the manifests that are not among the candidates yet
	unnamed := func(from int64) {
		for _, epoch := range slices.Backward(epochs) {
			if epoch >= from && epoch < below {
				out = append(out, commit{Epoch: epoch})
			}
		}
		below = min(below, from)
	}
	for _, n := range slices.Backward(numbers) {
		e, err := c.commit(ctx, n)
		switch {
		case errors.Is(err, ErrCheckpoint):
			skipped = append(skipped, Skipped{-1, err})
			continue
		case err != nil:
			return nil, nil, err
		case len(out) == 0 && len(skipped) > 0:
			unnamed(e.Epoch + 1)
		case e.Epoch == 0 && len(out) == 0:
			return nil, nil, nil
		}
		below = min(below, e.Epoch)
		if e.Epoch > 0 {
			out = append(out, e)
		}
	}
	if len(numbers) == 0 && len(epochs) > 0 { // the first checkpoint was cut short, or the commits were removed
		skipped = append(skipped, Skipped{-1, fmt.Errorf("%s: %w", commitsDir, ErrNotExist)})
	}
	unnamed(0)
	return out, skipped, nil
}

func (c *Checkpoints) epochs(ctx context.Context) ([]int64, error) {
	objects, err := c.store.List(ctx, checkpointsDir+"/")
	if err != nil {
		return nil, fmt.Errorf("checkpoints: %w", err)
	}
	var epochs []int64
	for _, o := range objects {
		dir, file := path.Split(o.Name)
		if file != "manifest.json" {
			continue
		}
		if n, err := strconv.ParseInt(path.Base(dir), 10, 64); err == nil {
			epochs = append(epochs, n)
		}
	}
	return epochs, nil
}

// read reads and verifies one checkpoint with all its files.
func (c *Checkpoints) read(ctx context.Context, epoch int64, want string) (*Checkpoint, error) {
	return c.readFiles(ctx, epoch, want, func(string) bool { return true })
}

// readFiles is read for those of the files that are wanted.
func (c *Checkpoints) readFiles(ctx context.Context, epoch int64, want string, wanted func(name string) bool) (*Checkpoint, error) {
	dir := epochDir(epoch)
	bad := func(err error) error {
		return fmt.Errorf("checkpoint %d: %w: %w", epoch, ErrCheckpoint, err)
	}
	b, err := c.store.GetRange(ctx, dir+"/manifest.json", 0, -1)
	if errors.Is(err, ErrNotExist) {
		return nil, bad(err)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint %d: %w", epoch, err)
	}
	if want != "" && sum(b) != want {
		return nil, bad(errors.New("manifest.json is not the one that was committed"))
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, bad(fmt.Errorf("manifest.json: %w", err))
	}
	if m.Format > CheckpointFormat {
		return nil, fmt.Errorf("checkpoint %d: %w: it has format %d, this program knows up to %d: run the version that wrote it, or a later one", epoch, ErrNewer, m.Format, CheckpointFormat)
	}
	if m.Epoch != epoch {
		return nil, bad(fmt.Errorf("manifest.json is of epoch %d", m.Epoch))
	}
	seed, err := strconv.ParseUint(m.Seed, 16, 64)
	if err != nil {
		return nil, bad(fmt.Errorf("seed: %w", err))
	}
	m.Newest = cmp.Or(m.Newest, MinTicks)
	cp := &Checkpoint{Job: m.Job, Lineage: m.Lineage, Epoch: m.Epoch, Seed: seed,
		Merged: Mark{Event: m.Event, Ingest: m.Ingest}, Newest: m.Newest, Pieces: m.Pieces, Files: m.Files, Config: m.Config}
	for _, f := range m.Files {
		if !wanted(f.Name) {
			continue
		}
		b, err := c.verified(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("checkpoint %d: %w", epoch, err)
		}
		if !strings.HasPrefix(f.Name, dir+"/") {
			continue
		}
		if err := c.table(b, path.Base(f.Name), cp); err != nil {
			return nil, bad(fmt.Errorf("%s: %w", f.Name, err))
		}
	}
	return cp, nil
}

// verified reads a file of a checkpoint. One that is missing or not as it was written wraps
// ErrCheckpoint; one that cannot be read now does not.
func (c *Checkpoints) verified(ctx context.Context, f FileRef) ([]byte, error) {
	if err := CheckObjectName(f.Name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	b, err := c.store.GetRange(ctx, f.Name, 0, -1)
	if errors.Is(err, ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != f.Size || sum(b) != f.Sum {
		return nil, fmt.Errorf("%w: %s: content does not match its checksum", ErrCheckpoint, f.Name)
	}
	return b, nil
}

// Confirm makes a checkpoint durable that no commit names. Its manifest is written last,
// and the process that wrote it may have died before its name was on the disk: the job must
// not publish what a power loss could still make it forget.
func (c *Checkpoints) Confirm(ctx context.Context, cp *Checkpoint) error {
	name := epochDir(cp.Epoch) + "/manifest.json"
	b, err := c.store.GetRange(ctx, name, 0, -1)
	if err == nil {
		err = c.store.Put(ctx, name, b)
	}
	if err != nil {
		return fmt.Errorf("checkpoint %d: %w", cp.Epoch, err)
	}
	return nil
}

// Lineage returns the highest lineage that commits and the names of state files tell of. A
// job that is rewound must rise above it, not above that of the checkpoint it is rewound to:
// when that lies before an earlier rewind, the next number is taken already.
func (c *Checkpoints) Lineage(ctx context.Context) (uint16, error) {
	var highest uint16
	numbers, err := c.commits(ctx)
	if err != nil {
		return 0, err
	}
	for _, n := range numbers {
		e, err := c.commit(ctx, n)
		if err != nil && !errors.Is(err, ErrCheckpoint) {
			return 0, err
		}
		highest = max(highest, e.Lineage)
	}
	objects, err := c.store.List(ctx, stateDir+"/")
	if err != nil {
		return 0, fmt.Errorf("state: %w", err)
	}
	for _, o := range objects {
		text, _, _ := strings.Cut(path.Base(o.Name), "-")
		if n, err := strconv.ParseUint(text, 10, 16); err == nil {
			highest = max(highest, uint16(n))
		}
	}
	return highest, nil
}

// Pieces reads the state of a checkpoint, piece by piece. Records are lent.
func (c *Checkpoints) Pieces(ctx context.Context, cp *Checkpoint, piece func(PieceRef, Piece) error) error {
	byFile := map[string][]PieceRef{}
	for _, p := range cp.Pieces {
		byFile[p.File] = append(byFile[p.File], p)
	}
	for _, f := range cp.Files {
		refs := byFile[f.Name]
		if len(refs) == 0 {
			continue
		}
		b, err := c.verified(ctx, f)
		if err != nil {
			return fmt.Errorf("checkpoint %d: %w", cp.Epoch, err)
		}
		if err := c.readPieces(b, refs, piece); err != nil {
			return fmt.Errorf("checkpoint %d: %s: %w", cp.Epoch, f.Name, err)
		}
	}
	return nil
}

func (c *Checkpoints) readPieces(b []byte, refs []PieceRef, piece func(PieceRef, Piece) error) error {
	r, err := ipc.NewFileReader(bytes.NewReader(b), ipc.WithAllocator(c.mem))
	if err != nil {
		return err
	}
	defer r.Close()
	for _, ref := range refs {
		rec, err := r.RecordBatch(ref.Batch)
		if err != nil {
			return fmt.Errorf("piece %s: %w", ref.ID, err)
		}
		if err := piece(ref, Piece{ID: ref.ID, Rec: rec}); err != nil {
			return err
		}
	}
	return nil
}

// ShardPiece is a piece of one shard's state, on its way to a checkpoint.
type ShardPiece struct {
	Op, Shard int
	Piece
}

// Write makes a checkpoint durable and lets it count. Pieces are those of all shards; one
// without rows is taken over from prev. Sum and place of what it wrote are added to cp.
func (c *Checkpoints) Write(ctx context.Context, cp *Checkpoint, prev *Checkpoint, pieces []ShardPiece) error {
	if err := c.writeState(ctx, cp, prev, pieces); err != nil {
		return fmt.Errorf("checkpoint %d: state: %w", cp.Epoch, err)
	}
	dir := epochDir(cp.Epoch)
	for _, t := range []struct {
		name string
		rec  arrow.RecordBatch
	}{{"splits.arrow", splitsRecord(c.mem, cp.Splits)}, {"moves.arrow", movesRecord(c.mem, cp.Moves)},
		{"gaps.arrow", gapsRecord(c.mem, cp.Gaps)}, {"receipts.arrow", receiptsRecord(c.mem, cp.Receipts)}} {
		f, err := c.writeArrow(ctx, dir+"/"+t.name, t.rec.Schema(), func(write func(arrow.RecordBatch) error) error { return write(t.rec) })
		t.rec.Release()
		if err != nil {
			return fmt.Errorf("checkpoint %d: %w", cp.Epoch, err)
		}
		cp.Files = append(cp.Files, f)
	}
	b, err := json.MarshalIndent(manifest{Format: CheckpointFormat, Job: cp.Job, Lineage: cp.Lineage, Epoch: cp.Epoch,
		Seed: strconv.FormatUint(cp.Seed, 16), Event: cp.Merged.Event, Ingest: cp.Merged.Ingest, Newest: cp.Newest, Pieces: cp.Pieces, Files: cp.Files, Config: cp.Config}, "", " ")
	if err != nil {
		return fmt.Errorf("checkpoint %d: manifest: %w", cp.Epoch, err)
	}
	crash.At("checkpoint.files")
	if err := c.store.Put(ctx, dir+"/manifest.json", b); err != nil {
		return fmt.Errorf("checkpoint %d: %w", cp.Epoch, err)
	}
	crash.At("checkpoint.manifest")
	e := c.lease.entry(cp.Epoch, cp.Lineage, sum(b), cp.Epoch+1)
	if cp.Last {
		e.Until = 0
	}
	if err := c.append(ctx, e); err != nil {
		return fmt.Errorf("checkpoint %d: %w", cp.Epoch, err)
	}
	crash.At("checkpoint.current")
	return nil
}

func (c *Checkpoints) writeState(ctx context.Context, cp, prev *Checkpoint, pieces []ShardPiece) error {
	type owner struct{ op, shard int }
	type id struct {
		owner
		piece string
	}
	old := map[id]PieceRef{}
	oldFiles := map[string]FileRef{}
	if prev != nil {
		for _, p := range prev.Pieces {
			old[id{owner{p.Op, p.Shard}, p.ID}] = p
		}
		for _, f := range prev.Files {
			oldFiles[f.Name] = f
		}
	}
	fresh := map[owner][]ShardPiece{}
	var owners []owner
	kept := map[string]bool{}
	for _, p := range pieces {
		o := owner{p.Op, p.Shard}
		if !p.Changed() {
			ref, ok := old[id{o, p.ID}]
			if !ok {
				return fmt.Errorf("piece %s of operator %d, shard %d is unchanged but was never written", p.ID, p.Op, p.Shard)
			}
			cp.Pieces = append(cp.Pieces, ref)
			if !kept[ref.File] {
				kept[ref.File] = true
				cp.Files = append(cp.Files, oldFiles[ref.File])
			}
			continue
		}
		if fresh[o] == nil {
			owners = append(owners, o)
		}
		fresh[o] = append(fresh[o], p)
	}
	for _, o := range owners {
		for k, group := range bySchema(fresh[o]) {
			name := fmt.Sprintf("%s/%05d-%020d-%s-%d.arrow", stateDir, cp.Lineage, cp.Epoch, OpName(o.op), o.shard)
			if k > 0 {
				name = fmt.Sprintf("%s/%05d-%020d-%s-%d-%d.arrow", stateDir, cp.Lineage, cp.Epoch, OpName(o.op), o.shard, k)
			}
			f, err := c.writeArrow(ctx, name, group[0].schema(), func(write func(arrow.RecordBatch) error) error {
				for i, p := range group {
					cp.Pieces = append(cp.Pieces, PieceRef{Op: p.Op, ID: p.ID, Shard: p.Shard, File: name, Batch: i})
					rec := p.Made().Rec
					err := write(rec)
					rec.Release()
					if err != nil {
						return fmt.Errorf("piece %s: %w", p.ID, err)
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			cp.Files = append(cp.Files, f)
		}
	}
	return nil
}

// OpName is how people call the operator of a piece.
func OpName(op int) string {
	if op == FrontOp {
		return "front"
	}
	return strconv.Itoa(op)
}

// bySchema puts pieces with the same columns together, in order: an Arrow file has one schema,
// and an operator may have pieces of several.
func bySchema(pieces []ShardPiece) [][]ShardPiece {
	var groups [][]ShardPiece
	for _, p := range pieces {
		at := slices.IndexFunc(groups, func(g []ShardPiece) bool { return g[0].schema().Equal(p.schema()) })
		if at < 0 {
			groups = append(groups, []ShardPiece{p})
			continue
		}
		groups[at] = append(groups[at], p)
	}
	return groups
}

// writeArrow writes an Arrow IPC file as one durable object.
func (c *Checkpoints) writeArrow(ctx context.Context, name string, schema *arrow.Schema, fill func(write func(arrow.RecordBatch) error) error) (FileRef, error) {
	w, err := c.store.Create(ctx, name)
	if err != nil {
		return FileRef{}, err
	}
	defer func() { _ = w.Abort() }() // nothing after Commit
	hash := xxhash.New()
	var size counter
	f, err := ipc.NewFileWriter(io.MultiWriter(w, hash, &size), ipc.WithSchema(schema), ipc.WithLZ4(), ipc.WithAllocator(c.mem))
	if err != nil {
		return FileRef{}, fmt.Errorf("%s: %w", name, err)
	}
	err = fill(f.Write)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return FileRef{}, fmt.Errorf("%s: %w", name, err)
	}
	if err := w.Commit(); err != nil {
		return FileRef{}, err
	}
	return FileRef{Name: name, Size: int64(size), Sum: fmt.Sprintf("%016x", hash.Sum64())}, nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// Prune removes checkpoints beyond the newest keep, and state that none of those needs.
// It never touches what cp, the one that counts, refers to.
func (c *Checkpoints) Prune(ctx context.Context, cp *Checkpoint) error {
	kept, err := c.history(ctx)
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	for _, f := range cp.Files {
		needed[f.Name] = true
	}
	keepDir := map[string]bool{}
	for _, epoch := range kept {
		keepDir[epochDir(epoch)] = true
		b, err := c.store.GetRange(ctx, epochDir(epoch)+"/manifest.json", 0, -1)
		if err != nil && !errors.Is(err, ErrNotExist) {
			return fmt.Errorf("prune checkpoints: %w", err) // what it needs is not known
		}
		var m manifest
		if err != nil || json.Unmarshal(b, &m) != nil {
			continue // corrupt: Load passes over it as well
		}
		for _, f := range m.Files {
			needed[f.Name] = true
		}
	}
	for _, prefix := range []string{checkpointsDir + "/", stateDir + "/"} {
		objects, err := c.store.List(ctx, prefix)
		if err != nil {
			return fmt.Errorf("prune checkpoints: %w", err)
		}
		// Manifests go first: whoever reads a checkpoint meanwhile and misses a file can tell that
		// it is being removed from one that is damaged.
		slices.SortStableFunc(objects, func(a, b Object) int {
			one, other := path.Base(a.Name) == "manifest.json", path.Base(b.Name) == "manifest.json"
			switch {
			case one == other:
				return 0
			case one:
				return -1
			}
			return 1
		})
		for _, o := range objects {
			if needed[o.Name] || keepDir[path.Dir(o.Name)] {
				continue
			}
			if !c.lease.Sure && epochOf(o.Name) > cp.Epoch {
				continue // perhaps of a process that has just taken the job over
			}
			if err := c.store.Delete(ctx, o.Name); err != nil {
				return fmt.Errorf("prune checkpoints: %w", err)
			}
		}
	}
	return c.pruneCommits(ctx)
}

// history returns the newest epochs that are kept: those that commits name, without the ones
// that the job was rewound over, then what was written before the oldest commit.
func (c *Checkpoints) history(ctx context.Context) ([]int64, error) {
	epochs, err := c.epochs(ctx)
	if err != nil {
		return nil, err
	}
	numbers, err := c.commits(ctx)
	if err != nil {
		return nil, err
	}
	var kept []int64
	below := int64(math.MaxInt64)
	for _, n := range slices.Backward(numbers) {
		e, err := c.commit(ctx, n)
		if err != nil && !errors.Is(err, ErrCheckpoint) {
			return nil, err
		}
		if err == nil && e.Epoch > 0 && e.Epoch < below {
			below = e.Epoch
			kept = append(kept, e.Epoch)
		}
	}
	for _, epoch := range slices.Backward(epochs) {
		if epoch < below {
			kept = append(kept, epoch)
		}
	}
	return kept[:min(len(kept), c.keep)], nil
}

// The small tables of a checkpoint.

var splitFields = []arrow.Field{
	{Name: "topic", Type: arrow.BinaryTypes.String},
	{Name: "partition", Type: arrow.PrimitiveTypes.Int32},
	{Name: "offset", Type: arrow.PrimitiveTypes.Int64},
	{Name: "leader_epoch", Type: arrow.PrimitiveTypes.Int32},
	{Name: "last_batch", Type: arrow.PrimitiveTypes.Int64},
	{Name: "last_crc", Type: arrow.PrimitiveTypes.Uint32},
	{Name: "last_ingest", Type: arrow.PrimitiveTypes.Int64},
	{Name: "event_mark", Type: arrow.PrimitiveTypes.Int64},
	{Name: "ingest_mark", Type: arrow.PrimitiveTypes.Int64},
	{Name: "quiet", Type: arrow.FixedWidthTypes.Boolean},
	{Name: "ended", Type: arrow.FixedWidthTypes.Boolean},
}

func splitsSchema() *arrow.Schema {
	fields := append([]arrow.Field(nil), splitFields...)
	for f := range NumFates {
		fields = append(fields, arrow.Field{Name: "rows_" + f.String(), Type: arrow.PrimitiveTypes.Int64})
	}
	return arrow.NewSchema(fields, nil)
}

func splitsRecord(mem memory.Allocator, splits []SplitState) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, splitsSchema())
	defer b.Release()
	for _, s := range splits {
		b.Field(0).(*array.StringBuilder).Append(s.Split.Topic)
		b.Field(1).(*array.Int32Builder).Append(s.Split.Partition)
		b.Field(2).(*array.Int64Builder).Append(s.Position.Offset)
		b.Field(3).(*array.Int32Builder).Append(s.Position.LeaderEpoch)
		b.Field(4).(*array.Int64Builder).Append(s.Position.LastBatch)
		b.Field(5).(*array.Uint32Builder).Append(s.Position.LastCRC)
		b.Field(6).(*array.Int64Builder).Append(s.Position.LastIngest)
		b.Field(7).(*array.Int64Builder).Append(s.Mark.Event)
		b.Field(8).(*array.Int64Builder).Append(s.Mark.Ingest)
		b.Field(9).(*array.BooleanBuilder).Append(s.Quiet)
		b.Field(10).(*array.BooleanBuilder).Append(s.Ended)
		for f := range NumFates {
			b.Field(11 + int(f)).(*array.Int64Builder).Append(s.Counts[f])
		}
	}
	return b.NewRecordBatch()
}

func movesRecord(mem memory.Allocator, moves []Move) arrow.RecordBatch {
	i64 := arrow.PrimitiveTypes.Int64
	b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{{Name: "split", Type: arrow.PrimitiveTypes.Int32},
		{Name: "from", Type: i64}, {Name: "to", Type: i64}, {Name: "seen", Type: i64}}, nil))
	defer b.Release()
	for _, m := range moves {
		b.Field(0).(*array.Int32Builder).Append(m.Split)
		b.Field(1).(*array.Int64Builder).Append(m.From)
		b.Field(2).(*array.Int64Builder).Append(m.To)
		b.Field(3).(*array.Int64Builder).Append(m.Seen)
	}
	return b.NewRecordBatch()
}

func gapsRecord(mem memory.Allocator, gaps []Gap) arrow.RecordBatch {
	i64 := arrow.PrimitiveTypes.Int64
	b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{{Name: "split", Type: arrow.PrimitiveTypes.Int32},
		{Name: "from", Type: i64}, {Name: "to", Type: i64}, {Name: "reason", Type: arrow.BinaryTypes.String}}, nil))
	defer b.Release()
	for _, g := range gaps {
		b.Field(0).(*array.Int32Builder).Append(g.Split)
		b.Field(1).(*array.Int64Builder).Append(g.From)
		b.Field(2).(*array.Int64Builder).Append(g.To)
		b.Field(3).(*array.StringBuilder).Append(g.Reason)
	}
	return b.NewRecordBatch()
}

func receiptsRecord(mem memory.Allocator, receipts []SinkReceipt) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{{Name: "sink", Type: arrow.BinaryTypes.String},
		{Name: "receipt", Type: arrow.BinaryTypes.Binary}}, nil))
	defer b.Release()
	for _, r := range receipts {
		b.Field(0).(*array.StringBuilder).Append(r.Sink)
		b.Field(1).(*array.BinaryBuilder).Append(r.Receipt)
	}
	return b.NewRecordBatch()
}

// table reads one of the small tables into cp.
func (c *Checkpoints) table(b []byte, name string, cp *Checkpoint) (err error) {
	// The checksum held, so what is read here was written by us; a panic of the Arrow
	// reader would still be a corrupt checkpoint, not the end of the process.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("cannot be read: %v", r)
		}
	}()
	r, err := ipc.NewFileReader(bytes.NewReader(b), ipc.WithAllocator(c.mem))
	if err != nil {
		return err
	}
	defer r.Close()
	for i := range r.NumRecords() {
		rec, err := r.RecordBatch(i)
		if err != nil {
			return err
		}
		switch name {
		case "splits.arrow":
			cp.Splits = append(cp.Splits, splitsOf(rec)...)
		case "moves.arrow":
			for i := range int(rec.NumRows()) {
				v := func(col int) int64 { return rec.Column(col).(*array.Int64).Value(i) }
				cp.Moves = append(cp.Moves, Move{Split: rec.Column(0).(*array.Int32).Value(i), From: v(1), To: v(2), Seen: v(3)})
			}
		case "gaps.arrow":
			for i := range int(rec.NumRows()) {
				v := func(col int) int64 { return rec.Column(col).(*array.Int64).Value(i) }
				cp.Gaps = append(cp.Gaps, Gap{Split: rec.Column(0).(*array.Int32).Value(i), From: v(1), To: v(2),
					Reason: strings.Clone(rec.Column(3).(*array.String).Value(i))})
			}
		case "receipts.arrow":
			for i := range int(rec.NumRows()) {
				cp.Receipts = append(cp.Receipts, SinkReceipt{Sink: strings.Clone(rec.Column(0).(*array.String).Value(i)),
					Receipt: bytes.Clone(rec.Column(1).(*array.Binary).Value(i))})
			}
		}
	}
	return nil
}

func splitsOf(rec arrow.RecordBatch) []SplitState {
	var splits []SplitState
	for i := range int(rec.NumRows()) {
		v := func(col int) int64 { return rec.Column(col).(*array.Int64).Value(i) }
		s := SplitState{
			Split: Split{Topic: strings.Clone(rec.Column(0).(*array.String).Value(i)), Partition: rec.Column(1).(*array.Int32).Value(i)},
			Position: Position{Offset: v(2), LeaderEpoch: rec.Column(3).(*array.Int32).Value(i), LastBatch: v(4),
				LastCRC: rec.Column(5).(*array.Uint32).Value(i), LastIngest: v(6)},
			Mark:  Mark{Event: v(7), Ingest: v(8)},
			Quiet: rec.Column(9).(*array.Boolean).Value(i),
			Ended: rec.Column(10).(*array.Boolean).Value(i),
		}
		for f := range NumFates {
			s.Counts[f] = v(11 + int(f))
		}
		splits = append(splits, s)
	}
	return splits
}
