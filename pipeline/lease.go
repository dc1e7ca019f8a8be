package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pipeline/crash"
)

var (
	// ErrHeld says that another process has the lease of a job.
	ErrHeld = errors.New("another process runs the job")
	// ErrFenced says that another process has taken the job over: nothing may be published.
	ErrFenced = errors.New("another process has taken the job over")
	// ErrNewer says that a newer program wrote what was found.
	ErrNewer = errors.New("written by a newer version")

	// errMoved says that a commit was made since the last Load.
	errMoved = errors.New("the job was committed by another process meanwhile")
)

// Lease is a process's claim to a job.
//
// Commits are numbered and made by PutIfAbsent: of two processes that go on from one commit
// one makes the next, and the other finds it there and stops before it publishes anything.
// So a process begins with a commit of its own that changes nothing, which fences whoever ran
// the job before, however slow that one is. TTL decides only whether to try.
type Lease struct {
	// Owner names the process to people. One of the same name is taken over at once.
	Owner string
	// TTL is how long after its last commit a process is taken for alive.
	TTL time.Duration
	// Sure says that no other process can be running the job, because of a lock that ends
	// with the process.
	Sure bool
	// Force takes the job over whoever has it.
	Force bool
	// Now is the clock that TTL is measured with; Run sets it.
	Now func() time.Time
}

// commit is an entry of the log of commits: from then on the checkpoint counts that the
// newest entry names.
type commit struct {
	Epoch   int64  `json:"epoch"`   // of the checkpoint, 0 for none yet
	Lineage uint16 `json:"lineage"` // with which the job goes on from it
	Sum     string `json:"manifest_xxh64"`
	// Next is the first epoch that the owner may write. A process that was taken over may
	// still be writing the files of the one before.
	Next  int64  `json:"next_epoch"`
	Owner string `json:"owner"`
	Until int64  `json:"until_ms"` // the lease's end by the owner's clock, 0 when it was given back
	// Check is the checksum of the entry without it. CURRENT had none.
	Check string `json:"xxh64,omitempty"`
}

// text returns the bytes of an entry, with its checksum.
func (e commit) text() ([]byte, error) {
	e.Check = ""
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	e.Check = sum(b)
	return json.Marshal(e)
}

func (l Lease) entry(epoch int64, lineage uint16, sum string, next int64) commit {
	e := commit{Epoch: epoch, Lineage: lineage, Sum: sum, Next: next, Owner: l.Owner}
	if l.Now != nil {
		e.Until = l.Now().Add(l.TTL).UnixMilli()
	}
	return e
}

// held tells whether another process may be running the job.
func (l Lease) held(e commit) error {
	if l.Sure || l.Force || e.Owner == l.Owner || l.Now == nil {
		return nil
	}
	left := time.UnixMilli(e.Until).Sub(l.Now()).Round(time.Second)
	if left <= 0 {
		return nil
	}
	return fmt.Errorf("%w: %s, and its lease lasts %v more; stop it, or wait until then, or take the job over with --take-over", ErrHeld, e.Owner, left)
}

// Take takes the job with the checkpoint that Load has found, nil for none, and the lineage to
// go on with. It returns the first epoch that may be written. The error wraps ErrHeld when
// another process has the job.
func (c *Checkpoints) Take(ctx context.Context, l Lease, cp *Checkpoint, lineage uint16) (int64, error) {
	c.lease = l
	e := l.entry(0, lineage, "", 1)
	if c.at > 0 {
		old, err := c.commit(ctx, c.at)
		if err != nil && !errors.Is(err, ErrCheckpoint) {
			return 0, err
		}
		if err := l.held(old); err != nil {
			return 0, err
		}
		e.Next = max(e.Next, old.Next)
	}
	if cp != nil {
		e.Epoch, e.Next = cp.Epoch, max(e.Next, cp.Epoch+1)
		b, err := c.store.GetRange(ctx, epochDir(cp.Epoch)+"/manifest.json", 0, -1)
		if err != nil {
			return 0, fmt.Errorf("take over: %w", err)
		}
		e.Sum = sum(b)
	}
	if l.Sure && cp != nil {
		e.Next = cp.Epoch + 1 // whoever wrote files of that epoch is dead
	} else if c.at > 0 && !l.Sure {
		e.Next++
	}
	if err := c.append(ctx, e); errors.Is(err, ErrFenced) {
		return 0, fmt.Errorf("take over: %w", errMoved)
	} else if err != nil {
		return 0, fmt.Errorf("take over: %w", err)
	}
	crash.At("checkpoint.taken")
	return e.Next, nil
}

func commitName(n int64) string { return fmt.Sprintf("%s/%020d", commitsDir, n) }

// commits returns the numbers of the commits, ascending, and notes the newest. Of a directory
// of format 1, which has none, it is 0, for CURRENT.
func (c *Checkpoints) commits(ctx context.Context) ([]int64, error) {
	objects, err := c.store.List(ctx, commitsDir+"/")
	if err != nil {
		return nil, fmt.Errorf("commits: %w", err)
	}
	var numbers []int64
	for _, o := range objects {
		if n, err := strconv.ParseInt(path.Base(o.Name), 10, 64); err == nil {
			numbers = append(numbers, n)
			c.at = n
		}
	}
	if len(numbers) > 0 {
		return numbers, nil
	}
	objects, err = c.store.List(ctx, currentName)
	if err != nil {
		return nil, fmt.Errorf("commits: %w", err)
	}
	if len(objects) > 0 && objects[0].Name == currentName {
		numbers = append(numbers, 0)
	}
	return numbers, nil
}

// commit reads a commit. One that is not as it was written wraps ErrCheckpoint.
func (c *Checkpoints) commit(ctx context.Context, n int64) (commit, error) {
	name := commitName(n)
	if n == 0 {
		name = currentName
	}
	b, err := c.store.GetRange(ctx, name, 0, -1)
	if errors.Is(err, ErrNotExist) {
		return commit{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	if err != nil {
		return commit{}, err
	}
	var e commit
	err = json.Unmarshal(b, &e)
	again, merr := e.text()
	if n == 0 {
		again, merr = json.Marshal(struct {
			Epoch   int64  `json:"epoch"`
			Lineage uint16 `json:"lineage"`
			Sum     string `json:"manifest_xxh64"`
		}{e.Epoch, e.Lineage, e.Sum})
	}
	if err != nil || merr != nil || !bytes.Equal(again, b) {
		return commit{}, fmt.Errorf("%w: %s is not as it was written", ErrCheckpoint, name)
	}
	return e, nil
}

// append makes the next commit. The error wraps ErrFenced when another process has made one
// since this one's last.
func (c *Checkpoints) append(ctx context.Context, e commit) error {
	body, err := e.text()
	if err != nil {
		return err
	}
	mine := c.at + 1
	err = c.store.PutIfAbsent(ctx, commitName(mine), body)
	if err != nil && !errors.Is(err, ErrExists) {
		return err
	}
	if err != nil {
		// A store may not know that an attempt whose answer was lost has succeeded.
		there, gerr := c.store.GetRange(ctx, commitName(mine), 0, -1)
		if gerr != nil && !errors.Is(gerr, ErrNotExist) {
			return gerr
		}
		if !bytes.Equal(there, body) {
			return c.fenced(ctx)
		}
	}
	// Whoever was away for so long that the numbers of his time are pruned finds newer ones.
	if _, err := c.commits(ctx); err != nil {
		return err
	}
	if c.at != mine {
		return c.fenced(ctx)
	}
	return nil
}

func (c *Checkpoints) fenced(ctx context.Context) error {
	by := "an unknown process"
	if _, err := c.commits(ctx); err == nil {
		if e, err := c.commit(ctx, c.at); err == nil {
			by = e.Owner
		}
	}
	return fmt.Errorf("%w: %s; what this process has done since its last checkpoint is done again there", ErrFenced, by)
}

// keepCommits is how many commits are kept.
const keepCommits = 64

// pruneCommits removes old commits.
func (c *Checkpoints) pruneCommits(ctx context.Context) error {
	objects, err := c.store.List(ctx, commitsDir+"/")
	if err != nil {
		return fmt.Errorf("prune commits: %w", err)
	}
	for _, o := range objects {
		n, err := strconv.ParseInt(path.Base(o.Name), 10, 64)
		if err != nil || n > c.at-keepCommits {
			continue
		}
		if err := c.store.Delete(ctx, o.Name); err != nil {
			return fmt.Errorf("prune commits: %w", err)
		}
	}
	return nil
}

// epochOf returns the epoch in the name of an object of a checkpoint.
func epochOf(name string) int64 {
	text := path.Base(path.Dir(name)) // checkpoints/<epoch>/<file>
	if strings.HasPrefix(name, stateDir+"/") {
		parts := strings.Split(path.Base(name), "-") // <lineage>-<epoch>-<op>-<shard>
		if len(parts) < 2 {
			return 0
		}
		text = parts[1]
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
