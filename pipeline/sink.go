package pipeline

import "context"

// Epoch names one checkpoint interval of a job.
type Epoch struct {
	Job     string
	Lineage uint16
	N       int64
}

// Receipt is a prepared stage as the checkpoint stores it. It is self-contained: a
// process that knows nothing but the receipt and the sink's configuration can publish it.
type Receipt []byte

// Sink makes staged rows visible. Publish is idempotent: after a crash it is called again
// with every receipt found in the last checkpoint. Every epoch has a stage, also one without
// rows. Begin of a new epoch may overlap Prepare and Publish of the one before.
type Sink interface {
	Begin(ctx context.Context, e Epoch) (Stage, error)
	Publish(ctx context.Context, r Receipt) error
	// Sweep removes what earlier runs staged and no receipt names. It is called once at
	// start, after every receipt of the checkpoint was published.
	Sweep(ctx context.Context) error
	Close() error
}

// Stage collects one epoch. Exactly one of Prepare and Abort ends it.
type Stage interface {
	// Write takes a batch, which is lent.
	Write(ctx context.Context, b Batch) error
	// Prepare makes the rows durable, not visible. at is the merged mark of the barrier that
	// ends the epoch: what it says of completeness becomes visible with the rows. A nil
	// receipt says that there is nothing to publish.
	Prepare(ctx context.Context, at Mark) (Receipt, error)
	Abort() error
}
