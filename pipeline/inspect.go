package pipeline

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ReadLocalStore opens the store in a directory that is there, for somebody who only reads: it
// makes nothing and removes nothing, whoever else has the directory.
func ReadLocalStore(dir string, fsys FS) (*LocalStore, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("store directory %s: %w", dir, err)
	}
	f, err := fsys.Open(abs)
	if err != nil {
		return nil, fileError("open store", abs, err)
	}
	info, err := f.Stat()
	if err == nil && !info.IsDir() {
		err = errors.New("it is no directory")
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fileError("open store", abs, err)
	}
	return &LocalStore{dir: abs, fs: fsys, known: map[string]bool{}}, nil
}

// Listed is a checkpoint that is there, whether it can be used or not.
type Listed struct {
	Epoch   int64
	Written time.Time // its manifest
	// Named says that a commit which is kept names it, Newest that the newest one does.
	Named, Newest bool
	// Checkpoint is what its manifest and its small tables say; nil with Err, which wraps
	// ErrCheckpoint or ErrNewer.
	Checkpoint *Checkpoint
	Err        error
}

// List returns the checkpoints that are there, the newest first. Their state is not read. One
// that is removed meanwhile is left out.
func (c *Checkpoints) List(ctx context.Context) ([]Listed, error) {
	objects, err := c.store.List(ctx, checkpointsDir+"/")
	if err != nil {
		return nil, fmt.Errorf("checkpoints: %w", err)
	}
	written := map[string]time.Time{}
	for _, o := range objects {
		written[o.Name] = o.ModTime
	}
	named, newest, err := c.named(ctx)
	if err != nil {
		return nil, err
	}
	epochs, err := c.epochs(ctx)
	if err != nil {
		return nil, err
	}
	var out []Listed
	for _, epoch := range slices.Backward(epochs) {
		l := Listed{Epoch: epoch, Written: written[epochDir(epoch)+"/manifest.json"], Newest: epoch == newest}
		want := ""
		want, l.Named = named[epoch]
		l.Checkpoint, l.Err = c.readFiles(ctx, epoch, want, func(name string) bool { return path.Dir(name) == epochDir(epoch) })
		if l.Err != nil {
			there, err := c.there(ctx, epoch)
			switch {
			case err != nil:
				return nil, err
			case !there:
				continue
			case !errors.Is(l.Err, ErrCheckpoint) && !errors.Is(l.Err, ErrNewer):
				return nil, l.Err
			}
		}
		out = append(out, l)
	}
	return out, nil
}

// named returns the checksums of the manifests that commits name, by epoch, and the epoch that
// the newest of them names. Commits that cannot be used name none.
func (c *Checkpoints) named(ctx context.Context) (sums map[int64]string, newest int64, err error) {
	numbers, err := c.commits(ctx)
	if err != nil {
		return nil, 0, err
	}
	sums = map[int64]string{}
	for i, n := range slices.Backward(numbers) {
		e, err := c.commit(ctx, n)
		if err != nil && !errors.Is(err, ErrCheckpoint) {
			return nil, 0, err
		}
		if _, later := sums[e.Epoch]; err != nil || e.Epoch == 0 || later {
			continue
		}
		sums[e.Epoch] = e.Sum
		if i == len(numbers)-1 {
			newest = e.Epoch
		}
	}
	return sums, newest, nil
}

// there tells whether a checkpoint has a manifest.
func (c *Checkpoints) there(ctx context.Context, epoch int64) (bool, error) {
	objects, err := c.store.List(ctx, epochDir(epoch)+"/manifest.json")
	if err != nil {
		return false, fmt.Errorf("checkpoint %d: %w", epoch, err)
	}
	return len(objects) > 0, nil
}

// Damaged is a file of a checkpoint that is missing or not as it was written.
type Damaged struct {
	File string
	Err  error
}

// Verify reads every file of a checkpoint and returns those that are damaged. What it returns
// of a checkpoint that is removed meanwhile wraps ErrNotExist.
func (c *Checkpoints) Verify(ctx context.Context, cp *Checkpoint) ([]Damaged, error) {
	var out []Damaged
	for _, f := range cp.Files {
		_, err := c.verified(ctx, f)
		switch {
		case err == nil:
		case errors.Is(err, ErrCheckpoint):
			out = append(out, Damaged{f.Name, err})
		default:
			return nil, fmt.Errorf("checkpoint %d: %w", cp.Epoch, err)
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	there, err := c.there(ctx, cp.Epoch)
	if err == nil && !there {
		err = fmt.Errorf("checkpoint %d was removed while it was read: %w", cp.Epoch, ErrNotExist)
	}
	return out, err
}

// Look is Pieces for somebody who does not trust the files: where the Arrow reader, or piece,
// panics over what is in them, the error wraps ErrCheckpoint.
func (c *Checkpoints) Look(ctx context.Context, cp *Checkpoint, piece func(PieceRef, Piece) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("checkpoint %d: %w: its state cannot be read: %v", cp.Epoch, ErrCheckpoint, r)
		}
	}()
	files := map[string]bool{}
	for _, f := range cp.Files {
		files[f.Name] = true
	}
	for _, p := range cp.Pieces {
		if !files[p.File] { // Pieces would pass it over
			return fmt.Errorf("checkpoint %d: %w: piece %q is in a file that is none of its own, %q", cp.Epoch, ErrCheckpoint, p.ID, strings.ToValidUTF8(p.File, "?"))
		}
	}
	return c.Pieces(ctx, cp, piece)
}
