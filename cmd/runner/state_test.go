package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/cespare/xxhash/v2"

	"github.com/tidemark/tidemark/pipeline"
)

// TestKeyParts: the columns of a key come back as texts, whatever their types.
func TestKeyParts(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	schema := arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "u", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	for _, r := range []struct {
		s string
		i int64
	}{{"RC-1", 7}, {"", -1}, {strings.Repeat("long", 50), 1 << 40}, {"Zürich, 2", 0}} {
		b.Field(0).(*array.StringBuilder).Append(r.s)
		b.Field(1).(*array.Int64Builder).Append(r.i)
		b.Field(2).(*array.StringBuilder).Append("u" + r.s)
	}
	for _, f := range b.Fields() {
		f.AppendNull()
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	for _, columns := range [][]string{{"s"}, {"i"}, {"s", "i"}, {"i", "s"}, {"s", "i", "u"}, {"i", "i"}} {
		k, err := pipeline.NewKeyer(schema, columns, 1)
		if err != nil {
			t.Fatal(err)
		}
		keys := k.Keys(rec)
		for r := range int(rec.NumRows()) {
			var want []string
			for _, name := range columns {
				want = append(want, valueText(rec.Column(schema.FieldIndices(name)[0]), r))
			}
			for _, n := range []int{0, len(columns)} {
				if got := keyParts(keys.At(int32(r)), n); !slices.Equal(got, want) {
					t.Errorf("%v, %d columns: %q, want %q", columns, n, got, want)
				}
			}
		}
	}
	for _, key := range []string{"", "\x01", "\x01\x7f", strings.Repeat("\x00", 40), "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x", "a\xffb"} {
		if parts := keyParts([]byte(key), 3); len(parts) == 0 || slices.ContainsFunc(parts, func(s string) bool { return strings.Contains(s, "\xff") }) {
			t.Errorf("%q: %q", key, parts)
		}
	}
}

func TestDiffPieces(t *testing.T) {
	ref := func(op int, id, file string, batch int) pipeline.PieceRef {
		return pipeline.PieceRef{Op: op, ID: id, File: file, Batch: batch}
	}
	got := diffPieces(
		[]pipeline.PieceRef{ref(1, "a", "f", 0), ref(1, "b", "f", 1), ref(1, "c", "f", 2), ref(2, "a", "g", 0)},
		[]pipeline.PieceRef{ref(1, "a", "f", 0), ref(1, "b", "h", 1), ref(1, "d", "h", 0), ref(3, "a", "i", 0)})
	want := []piecesDiff{{Op: 1, New: 1, Rewritten: 1, Gone: 1, Unchanged: 1}, {Op: 2, Gone: 1}, {Op: 3, New: 1}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestVisible: a text of a checkpoint does not steer a terminal.
func TestVisible(t *testing.T) {
	for in, want := range map[string]string{"RC-1 Zürich": "RC-1 Zürich", "a\x1b[2Jb": `"a\x1b[2Jb"`, "a\nb": `"a\nb"`, "\xff": `"\xff"`, "a\u202eb": `"a\u202eb"`} {
		if got := visible(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// hostile is a copy of the checkpoint of a job in which somebody has changed a file and all
// checksums that tell of it.
type hostile struct {
	dir   string
	files []string // relative to dir; the manifest last
}

func newHostile(t testing.TB) hostile {
	t.Helper()
	h := hostile{dir: t.TempDir()}
	if err := os.CopyFS(h.dir, os.DirFS("testdata/checkpoints/third-windows/state")); err != nil {
		t.Fatal(err)
	}
	for _, glob := range []string{"state/*.arrow", "checkpoints/*/*.arrow", "checkpoints/*/manifest.json"} {
		found, err := filepath.Glob(filepath.Join(h.dir, glob))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d files, %v", glob, len(found), err)
		}
		h.files = append(h.files, found...)
	}
	return h
}

// change writes a file and lets manifest and commit say that it is as it was written.
func (h hostile) change(t testing.TB, file string, content []byte) {
	t.Helper()
	manifest := h.files[len(h.files)-1]
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if file == manifest {
		text = content
	} else {
		var m map[string]any
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		for _, f := range m["files"].([]any) {
			if f := f.(map[string]any); strings.HasSuffix(filepath.ToSlash(file), f["name"].(string)) {
				f["size"], f["xxh64"] = len(content), fmt.Sprintf("%016x", xxhash.Sum64(content))
			}
		}
		if text, err = json.Marshal(m); err != nil {
			t.Fatal(err)
		}
	}
	commits, err := filepath.Glob(filepath.Join(h.dir, "commits", "*"))
	if err != nil || len(commits) == 0 {
		t.Fatalf("%d commits, %v", len(commits), err)
	}
	entry := fmt.Sprintf(`{"epoch":2,"lineage":1,"manifest_xxh64":"%016x","next_epoch":3,"owner":"","until_ms":0`, xxhash.Sum64(text))
	commit := fmt.Sprintf(`%s,"xxh64":"%016x"}`, entry, xxhash.Sum64String(entry+"}"))
	for name, b := range map[string][]byte{file: content, manifest: text, commits[len(commits)-1]: []byte(commit)} {
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// look runs every command on the checkpoint and returns what they printed.
func (h hostile) look(t testing.TB) string {
	t.Helper()
	var all bytes.Buffer
	for _, args := range [][]string{
		{"checkpoint", "ls", "--verify"}, {"checkpoint", "inspect"}, {"checkpoint", "inspect", "2", "-o", "json"}, {"checkpoint", "verify"},
		{"checkpoint", "diff", "2", "2"}, {"state", "get", "RC-1"}, {"state", "get", "RC-1", "-o", "json"},
	} {
		var stdout, stderr bytes.Buffer
		code := Main(context.Background(), append(args, "--dir", h.dir), streams{&stdout, &stderr})
		if code != 0 && code != exitFailed || code != 0 && stderr.Len() == 0 {
			t.Fatalf("%v: exit code %d, says %q", args, code, stderr.String())
		}
		all.Write(stdout.Bytes())
		all.Write(stderr.Bytes())
	}
	return all.String()
}

// FuzzHostileCheckpoint: whatever is in a checkpoint, the commands that read it answer or refuse;
// they neither panic nor print what steers a terminal. With checksums that hold, the manifest is
// anything, and a table of Arrow is any other. A changed byte of a table is refused by the old
// checksum before Arrow sees it, whose reader trusts the lengths that it is given.
func FuzzHostileCheckpoint(f *testing.F) {
	for file := range uint8(7) {
		for other := range uint8(6) {
			f.Add(file, other, uint16(0), uint8(0))
		}
		for at := range uint16(12) {
			f.Add(file, file, at*397, uint8(1)<<(at%8))
		}
	}
	f.Fuzz(func(t *testing.T, file, other uint8, at uint16, flip uint8) {
		h := newHostile(t)
		tables := len(h.files) - 1
		name := h.files[int(file)%len(h.files)]
		manifest := int(file)%len(h.files) == tables
		from := name
		if !manifest {
			from = h.files[int(other)%tables]
		}
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		b[int(at)%len(b)] ^= flip
		if manifest || flip == 0 {
			h.change(t, name, b)
		} else if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
		said := h.look(t)
		if strings.ContainsAny(said, "\x00\x1b\x7f") {
			t.Errorf("it prints control characters: %q", said)
		}
		if !manifest && flip != 0 && !strings.Contains(said, "content does not match its checksum") {
			t.Errorf("a changed byte passes: %s", said)
		}
	})
}

// TestHostileControl: a change that makes sense is taken for what it says, so the others are
// refused for what they are and not for their checksums.
func TestHostileControl(t *testing.T) {
	h := newHostile(t)
	manifest := h.files[len(h.files)-1]
	b, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	h.change(t, manifest, bytes.Replace(b, []byte(`"job": "windows"`), []byte(`"job": "\u001b[2J"`), 1))
	if said := h.look(t); !strings.Contains(said, `of job "\x1b[2J", lineage 1`) || !strings.Contains(said, "all as they were written") {
		t.Errorf("said %s", said)
	}
}
