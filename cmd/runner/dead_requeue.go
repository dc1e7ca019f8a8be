package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/kafka"
	source "github.com/tidemark/tidemark/sources/kafka"
)

// requeuedHeader says of a record that was sent again where it was: topic/partition@offset.
const requeuedHeader = "tidemark_requeued"

// Requeues are recorded in a directory beside the job's checkpoints, of the same name with requeueSuffix
// behind it: claims/NNNNN.json names rows before they are sent, sent/NNNNN.json says that they were. A
// row that a claim names is never sent again, whatever became of it: a record that is there twice is
// counted twice, one that is missing can still be found.
const (
	requeueSuffix = "-requeued"
	claimsDir     = "claims"
	sentDir       = "sent"
)

// requeueChunk is how many rows a claim names, and how many payloads are in memory.
const requeueChunk = 1000

// requeueClaim names rows that are about to be sent.
type requeueClaim struct {
	Number int         `json:"number"`
	Job    string      `json:"job"`
	Made   time.Time   `json:"made"`
	Topic  string      `json:"topic"` // where they go
	Rows   []offsetRun `json:"rows"`
}

// offsetRun are offsets of a partition, the last one included.
type offsetRun struct {
	Split string `json:"split"`
	First int64  `json:"first"`
	Last  int64  `json:"last"`
}

// requeues is what was sent again.
type requeues struct {
	store pipeline.Store // nil: nothing, ever
	rows  map[logPlace]bool
	last  int   // number of the newest claim
	open  []int // claims that nobody has seen through
}

func requeueDir(cfg Config) string { return cfg.Checkpoint.Dir + requeueSuffix }

// readRequeues reads what was requeued of a job.
func readRequeues(ctx context.Context, cfg Config) (*requeues, error) {
	store, err := readStore(ctx, requeueDir(cfg), cfg.Checkpoint.S3)
	if errors.Is(err, fs.ErrNotExist) {
		return &requeues{rows: map[logPlace]bool{}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("requeues: %w", err)
	}
	return loadRequeues(ctx, store)
}

func loadRequeues(ctx context.Context, store pipeline.Store) (*requeues, error) {
	q := &requeues{store: store, rows: map[logPlace]bool{}}
	sent, err := store.List(ctx, sentDir+"/")
	if err != nil {
		return nil, fmt.Errorf("requeues: %w", err)
	}
	done := map[string]bool{}
	for _, o := range sent {
		done[path.Base(o.Name)] = true
	}
	claims, err := store.List(ctx, claimsDir+"/")
	if err != nil {
		return nil, fmt.Errorf("requeues: %w", err)
	}
	for _, o := range claims {
		b, err := store.GetRange(ctx, o.Name, 0, -1)
		if err != nil {
			return nil, fmt.Errorf("requeues: %w", err)
		}
		var c requeueClaim
		if err := json.Unmarshal(b, &c); err != nil {
			return nil, fmt.Errorf("requeues: %s: %w", o.Name, err)
		}
		for _, r := range c.Rows {
			for at := r.First; at <= r.Last; at++ {
				q.rows[logPlace{r.Split, at}] = true
			}
		}
		if q.last = max(q.last, c.Number); !done[path.Base(o.Name)] {
			q.open = append(q.open, c.Number)
		}
	}
	return q, nil
}

func claimName(dir string, number int) string { return fmt.Sprintf("%s/%05d.json", dir, number) }

var errBusy = errors.New("somebody else requeues rows of this job at the moment; nothing was sent of the rest: try again")

// claim records that rows are about to be sent.
func (q *requeues) claim(ctx context.Context, job, topic string, rows []*refusedRow) (int, error) {
	c := requeueClaim{Number: q.last + 1, Job: job, Made: time.Now().UTC(), Topic: topic}
	for _, r := range rows {
		if q.rows[r.place()] {
			return 0, errBusy
		}
		if n := len(c.Rows); n > 0 && c.Rows[n-1].Split == r.Split && c.Rows[n-1].Last == r.Offset-1 {
			c.Rows[n-1].Last++
			continue
		}
		c.Rows = append(c.Rows, offsetRun{r.Split, r.Offset, r.Offset})
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return 0, fmt.Errorf("requeue %d: %w", c.Number, err)
	}
	err = q.store.PutIfAbsent(ctx, claimName(claimsDir, c.Number), append(b, '\n'))
	if errors.Is(err, pipeline.ErrExists) {
		return 0, errBusy
	}
	q.last = c.Number
	return c.Number, err
}

// requeue is what `dead requeue` does.
type requeue struct {
	*refusedFlags
	topic          string
	dryRun, yes    bool
	fromTable      bool
	log            *source.Log
	extents        map[int32]source.Extent
	sent, again    int
	gone, valuless int // records that are no longer in the log, or have no value that can be read
}

func cmdDeadRequeue(ctx context.Context, args []string, out streams) error {
	r := &requeue{refusedFlags: newDeadFlags("dead requeue", "tidemark dead requeue -f job.yaml --reason malformed_json --dry-run",
		"sends the records of refused rows once more to the job's topic, with their keys, as the log still has them, each with the header "+requeuedHeader+": topic/partition@offset. No row is sent twice: what was sent is recorded beside the checkpoints")}
	r.StringVar(&r.topic, "topic", "", "send to this `topic` in place of the job's")
	r.BoolVar(&r.dryRun, "dry-run", false, "say what would be sent, and send nothing")
	r.BoolVar(&r.yes, "yes", false, "send")
	r.BoolVar(&r.fromTable, "from-table", false, "of records that are no longer in the log send what the table has, where it has all of it, without a key")
	if err := r.parse(args); err != nil {
		return err
	}
	if r.dryRun == r.yes {
		return r.wrong("want --dry-run to see what would be sent, or --yes to send it")
	}
	return r.run(ctx, out)
}

func (r *requeue) run(ctx context.Context, out streams) error {
	cfg := r.plan.cfg
	var rows []*refusedRow
	err := r.scan(ctx, func(row *refusedRow) error {
		if row.Requeued {
			r.again++
			return nil
		}
		if row.Values = nil; !r.fromTable {
			row.raw, row.hasRaw = "", false
		}
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(rows, compareRefused)
	if r.log, err = source.Look(cfg.Source.Kafka); err != nil {
		return err
	}
	defer r.log.Close()
	if r.extents, err = r.log.Extents(ctx); err != nil {
		return err
	}
	to := cmp.Or(r.topic, cfg.Source.Kafka.Topic)
	if err := there(ctx, cfg.Source.Kafka, to); err != nil {
		return err
	}
	send := func(context.Context, []*refusedRow, []kafka.Record) error { return nil }
	if r.yes {
		var closeAll func()
		if send, closeAll, err = r.sender(ctx, to); err != nil {
			return err
		}
		defer closeAll()
	}
	for part := range slices.Chunk(rows, requeueChunk) {
		whose, records, err := r.records(ctx, part)
		if err == nil && len(records) > 0 {
			err = send(ctx, whose, records)
		}
		if err != nil {
			return fmt.Errorf("dead requeue: after %d records: %w", r.sent, err)
		}
		r.sent += len(records)
	}
	return r.report(out, to)
}

// there tells a topic that does not exist before rows are claimed for it.
func there(ctx context.Context, cfg source.Config, topic string) error {
	if topic == cfg.Topic {
		return nil
	}
	cfg.Topic = topic
	log, err := source.Look(cfg)
	if err != nil {
		return err
	}
	defer log.Close()
	_, err = log.Extents(ctx)
	return err
}

func (r *requeue) report(out streams, to string) error {
	if r.format == formatJSON {
		return printJSON(out.stdout, map[string]any{"topic": to, "dry_run": r.dryRun, "sent": r.sent, "requeued_before": r.again, "gone": r.gone, "without_value": r.valuless})
	}
	verb := "sent"
	if r.dryRun {
		verb = "would be sent"
	}
	text := fmt.Sprintf("%d records %s to %s; %d were requeued before", r.sent, verb, to, r.again)
	if r.gone > 0 {
		text += fmt.Sprintf("; %d are no longer in the log", r.gone)
		if !r.fromTable {
			text += " (--from-table sends what the table has of them, without keys)"
		}
	}
	if r.valuless > 0 {
		text += fmt.Sprintf("; %d have no value that can be sent", r.valuless)
	}
	if len(r.open) > 0 {
		text += fmt.Sprintf("; of the rows of %s nobody knows whether they were sent (a requeue was cut short): they count as requeued", claimName(claimsDir, r.open[0]))
	}
	_, err := fmt.Fprintln(out.stdout, text)
	return err
}

// sender sends what it has claimed.
func (r *requeue) sender(ctx context.Context, topic string) (send func(context.Context, []*refusedRow, []kafka.Record) error, closeAll func(), err error) {
	cfg := r.plan.cfg
	store, err := openStore(requeueDir(cfg), cfg.Checkpoint.S3)
	if err != nil {
		return nil, nil, fmt.Errorf("requeues: %w", err)
	}
	q, err := loadRequeues(ctx, store)
	if err != nil {
		return nil, nil, err
	}
	tr, err := cfg.Source.Kafka.Transport()
	if err != nil {
		return nil, nil, err
	}
	pc := kafka.DefaultConfig()
	pc.Brokers = cfg.Source.Kafka.Brokers
	producer, err := kafka.New(pc, tr)
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context, rows []*refusedRow, records []kafka.Record) error {
		number, err := q.claim(ctx, cfg.Job, topic, rows)
		if err != nil {
			return err
		}
		if err := producer.Produce(ctx, topic, records); err != nil {
			return fmt.Errorf("requeue %d of %d rows: %w; some of them may have been sent, and none will be again: look for the header %s in %s, and take %s out of %s to send the claim's rows once more",
				number, len(rows), err, requeuedHeader, topic, claimName(claimsDir, number), requeueDir(cfg))
		}
		return q.store.PutIfAbsent(ctx, claimName(sentDir, number), []byte("{}\n"))
	}, producer.Close, nil
}

// records reads the records of rows from the log, for as many rows as have one that can be sent.
func (r *requeue) records(ctx context.Context, rows []*refusedRow) (whose []*refusedRow, records []kafka.Record, err error) {
	for len(rows) > 0 {
		n := 1 // rows that one look at the log finds
		for n < len(rows) && rows[n].Split == rows[0].Split && rows[n].Offset-rows[n-1].Offset <= lookAhead {
			n++
		}
		found, err := r.look(ctx, rows[:n])
		if err != nil {
			return nil, nil, err
		}
		for _, row := range rows[:n] {
			rec, there := found[row.Offset]
			switch {
			case there && rec.Value == nil:
				r.valuless++
				continue
			case !there && r.fromTable && row.whole():
				rec = kafka.Record{Value: []byte(row.raw)}
			case !there:
				r.gone++
				continue
			}
			rec.Partition = -1
			if r.topic == "" { // whatever its producer went by
				rec.Partition = int(partitionOf(row.Split))
			}
			rec.Headers = []kafka.Header{{Key: requeuedHeader, Value: fmt.Appendf(nil, "%s@%d", row.Split, row.Offset)}}
			whose, records = append(whose, row), append(records, rec)
		}
		rows = rows[n:]
	}
	return whose, records, nil
}

// lookAhead is how many records are read to get to the next row, in place of asking for it.
const lookAhead = 5000

// look finds the records of rows of one partition.
func (r *requeue) look(ctx context.Context, rows []*refusedRow) (map[int64]kafka.Record, error) {
	partition := partitionOf(rows[0].Split)
	found := map[int64]kafka.Record{}
	from := max(rows[0].Offset, r.extents[partition].Start)
	to := min(rows[len(rows)-1].Offset+1, r.extents[partition].End)
	if from >= to {
		return found, nil
	}
	wanted := map[int64]bool{}
	for _, row := range rows {
		wanted[row.Offset] = true
	}
	err := r.log.Read(ctx, partition, from, to, func(w *pipeline.Wire) (bool, error) {
		for i, at := range w.Offset {
			if !wanted[at] {
				continue
			}
			rec := kafka.Record{Key: slices.Clone(w.Key(i))}
			if w.Fault == "" {
				rec.Value = slices.Clone(w.Value(i))
			}
			found[at] = rec
		}
		return true, nil
	})
	if errors.Is(err, source.ErrAgedOut) { // in the meantime
		err = nil
	}
	return found, err
}

// partitionOf is the number behind the topic of a split's name.
func partitionOf(split string) int32 {
	var n int32
	_, _ = fmt.Sscan(split[strings.LastIndexByte(split, '/')+1:], &n) // pipeline.Split.String made it
	return n
}
