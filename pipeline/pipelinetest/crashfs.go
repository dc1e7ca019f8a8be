package pipelinetest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

// diskBlock is what a disk writes at a time: of data that was not synced any block may be
// there, or be zero.
const diskBlock = 512

// Disk is a file system in memory with a log of all that was done to it, so that every
// state in which a power loss may leave it can be made (Crashes). The death of a process
// is another thing: what it did stays, synced or not, for the next one.
//
// What is durable: the data of a file up to its last sync that worked, and the entries of
// a directory up to its last sync. A sync that failed has given its data up for good, as
// kernels do: a later one that works does not bring them to the disk.
type Disk struct {
	mu   sync.Mutex
	log  []diskOp
	data [][]byte // by inode: all that was ever written to it
	live entries
	base entries // what was durable before the log
	old  int     // inodes from before the log
}

// entries are the names of a file system by directory.
type entries map[string]map[string]inode

// inode is a number of Disk.data, or isDir.
type inode int

const (
	isDir  inode = -1
	absent inode = -2
)

type diskKind int

const (
	diskEntry diskKind = iota
	diskWrite
	diskSync
	diskSyncFailed
	diskSyncDir
	diskNote
)

// diskOp is one step of the log.
type diskOp struct {
	kind    diskKind
	changes []change // of a diskEntry: one that is made as a whole, or not at all
	ino     inode
	n       int // bytes after a write
	dir     string
	note    int64
}

// change is a name that becomes an inode, or absent.
type change struct {
	dir, name string
	to        inode
}

// DiskCall is a call that a process makes.
type DiskCall struct {
	Op   string // create, write, sync, close, open, read, link, rename, remove, mkdir, syncdir, readdir
	Path string
}

// Changes tells whether the call may change the disk.
func (c DiskCall) Changes() bool {
	return c.Op != "open" && c.Op != "read" && c.Op != "readdir" && c.Op != "close"
}

// ErrPowerLoss is what calls of a process return that is dead.
var ErrPowerLoss = errors.New("the process is dead")

// PartialWrite is the error of a write that wrote half.
type PartialWrite struct{ Err error }

func (p PartialWrite) Error() string { return "short write: " + p.Err.Error() }
func (p PartialWrite) Unwrap() error { return p.Err }

// NewDisk returns an empty disk.
func NewDisk() *Disk {
	root := func() entries { return entries{"/": {}} }
	return &Disk{live: root(), base: root()}
}

// FS returns the calls of one process. Every call asks fault, unless nil, and fails
// with its error, without effect but for PartialWrite.
func (d *Disk) FS(fault func(DiskCall) error) pipeline.FS {
	p := &diskProcess{d, fault}
	return pipeline.FS{Create: p.create, Open: p.open, Link: p.link, Rename: p.rename, Remove: p.remove, Mkdir: p.mkdir,
		SyncDir: p.syncDir, ReadDir: p.readDir}
}

// DieAt returns a fault: the process dies just before the nth call that matches, from 1.
func DieAt(n int, match func(DiskCall) bool) func(DiskCall) error {
	var mu sync.Mutex
	return func(c DiskCall) error {
		mu.Lock()
		defer mu.Unlock()
		if match(c) && n > 0 {
			n--
		}
		if n == 0 {
			return ErrPowerLoss
		}
		return nil
	}
}

// Note puts a number into the log. Numbers grow.
func (d *Disk) Note(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, diskOp{kind: diskNote, note: n})
}

// Flip changes a bit of a file, by the disk's own fault: nothing in the log says so.
func (d *Disk) Flip(file string, bit int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	ino, ok := d.live[path.Dir(file)][path.Base(file)]
	if !ok || ino < 0 {
		return fmt.Errorf("flip %s: %w", file, fs.ErrNotExist)
	}
	b := bytes.Clone(d.data[ino])
	b[bit/8%len(b)] ^= 1 << (bit % 8)
	d.data[ino] = b
	return nil
}

// Len returns the length of the log.
func (d *Disk) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.log)
}

type diskProcess struct {
	d     *Disk
	fault func(DiskCall) error
}

// begin locks the disk and asks for a fault. The caller unlocks, unless there is an error.
func (p *diskProcess) begin(op, file string) error {
	if p.fault != nil {
		if err := p.fault(DiskCall{op, file}); err != nil {
			return &fs.PathError{Op: op, Path: file, Err: err}
		}
	}
	p.d.mu.Lock()
	return nil
}

// change makes a step of names.
func (d *Disk) change(changes ...change) {
	d.live.apply(changes)
	d.log = append(d.log, diskOp{kind: diskEntry, changes: changes})
}

func (e entries) apply(changes []change) {
	for _, c := range changes {
		if e[c.dir] == nil { // made, but itself not yet an entry of its parent that is durable
			e[c.dir] = map[string]inode{}
		}
		if c.to == absent {
			delete(e[c.dir], c.name)
			continue
		}
		e[c.dir][c.name] = c.to
		if full := path.Join(c.dir, c.name); c.to == isDir && e[full] == nil {
			e[full] = map[string]inode{}
		}
	}
}

// find returns what a path names.
func (d *Disk) find(file string) (inode, error) {
	dir, ok := d.live[path.Dir(file)]
	if !ok {
		return absent, fs.ErrNotExist
	}
	if ino, ok := dir[path.Base(file)]; ok {
		return ino, nil
	}
	return absent, nil
}

func (p *diskProcess) create(file string) (pipeline.File, error) {
	if err := p.begin("create", file); err != nil {
		return nil, err
	}
	defer p.d.mu.Unlock()
	switch ino, err := p.d.find(file); {
	case err != nil:
		return nil, err
	case ino != absent:
		return nil, fs.ErrExist
	}
	ino := inode(len(p.d.data))
	p.d.data = append(p.d.data, nil)
	p.d.change(change{path.Dir(file), path.Base(file), ino})
	return &diskFile{p, ino, file}, nil
}

func (p *diskProcess) open(file string) (pipeline.ReadFile, error) {
	if err := p.begin("open", file); err != nil {
		return nil, err
	}
	defer p.d.mu.Unlock()
	ino, err := p.d.find(file)
	if err != nil || ino == absent {
		return nil, fs.ErrNotExist
	}
	r := &diskReader{p: p, name: file}
	if ino != isDir {
		r.Reader = *bytes.NewReader(p.d.data[ino])
	}
	r.info = diskInfo{path.Base(file), r.Size(), ino == isDir}
	return r, nil
}

// place makes to the name of what from names, and removes from when it is moved.
func (p *diskProcess) place(op, from, to string, move bool) error {
	if err := p.begin(op, to); err != nil {
		return err
	}
	defer p.d.mu.Unlock()
	ino, err := p.d.find(from)
	if err != nil || ino == absent {
		return fs.ErrNotExist
	}
	old, err := p.d.find(to)
	if err != nil {
		return err
	}
	if old != absent && !move {
		return fs.ErrExist
	}
	changes := []change{{path.Dir(to), path.Base(to), ino}}
	if move {
		changes = append(changes, change{path.Dir(from), path.Base(from), absent})
	}
	p.d.change(changes...)
	return nil
}

func (p *diskProcess) link(from, to string) error   { return p.place("link", from, to, false) }
func (p *diskProcess) rename(from, to string) error { return p.place("rename", from, to, true) }

func (p *diskProcess) remove(file string) error {
	if err := p.begin("remove", file); err != nil {
		return err
	}
	defer p.d.mu.Unlock()
	if ino, err := p.d.find(file); err != nil || ino == absent {
		return fs.ErrNotExist
	}
	p.d.change(change{path.Dir(file), path.Base(file), absent})
	return nil
}

func (p *diskProcess) mkdir(dir string) error {
	if err := p.begin("mkdir", dir); err != nil {
		return err
	}
	defer p.d.mu.Unlock()
	switch ino, err := p.d.find(dir); {
	case err != nil:
		return err
	case ino != absent:
		return fs.ErrExist
	}
	p.d.change(change{path.Dir(dir), path.Base(dir), isDir})
	return nil
}

func (p *diskProcess) syncDir(dir string) error {
	if err := p.begin("syncdir", dir); err != nil {
		return err
	}
	defer p.d.mu.Unlock()
	if p.d.live[dir] == nil {
		return fs.ErrNotExist
	}
	p.d.log = append(p.d.log, diskOp{kind: diskSyncDir, dir: dir})
	return nil
}

func (p *diskProcess) readDir(dir string) ([]fs.DirEntry, error) {
	if err := p.begin("readdir", dir); err != nil {
		return nil, err
	}
	defer p.d.mu.Unlock()
	if p.d.live[dir] == nil {
		return nil, fs.ErrNotExist
	}
	var out []fs.DirEntry
	for name, ino := range p.d.live[dir] {
		info := diskInfo{name, 0, ino == isDir}
		if ino >= 0 {
			info.size = int64(len(p.d.data[ino]))
		}
		out = append(out, fs.FileInfoToDirEntry(info))
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

type diskFile struct {
	p    *diskProcess
	ino  inode
	path string
}

func (f *diskFile) Write(b []byte) (int, error) {
	err := f.p.begin("write", f.path)
	d := f.p.d
	if err != nil {
		if !errors.As(err, &PartialWrite{}) {
			return 0, err
		}
		b = b[:len(b)/2]
		d.mu.Lock()
	}
	defer d.mu.Unlock()
	d.data[f.ino] = append(d.data[f.ino], b...)
	d.log = append(d.log, diskOp{kind: diskWrite, ino: f.ino, n: len(d.data[f.ino])})
	return len(b), err
}

func (f *diskFile) Sync() error {
	err := f.p.begin("sync", f.path)
	d, kind := f.p.d, diskSync
	if err != nil {
		if errors.Is(err, ErrPowerLoss) {
			return err
		}
		kind = diskSyncFailed
		d.mu.Lock()
	}
	defer d.mu.Unlock()
	d.log = append(d.log, diskOp{kind: kind, ino: f.ino})
	return err
}

func (f *diskFile) Close() error {
	if err := f.p.begin("close", f.path); err != nil {
		return err
	}
	f.p.d.mu.Unlock()
	return nil
}

type diskReader struct {
	bytes.Reader
	p    *diskProcess
	name string
	info diskInfo
}

func (r *diskReader) ReadAt(b []byte, off int64) (int, error) {
	if err := r.p.begin("read", r.name); err != nil {
		return 0, err
	}
	r.p.d.mu.Unlock()
	return r.Reader.ReadAt(b, off)
}

func (r *diskReader) Stat() (fs.FileInfo, error) { return r.info, nil }
func (r *diskReader) Close() error               { return nil }

type diskInfo struct {
	name string
	size int64
	dir  bool
}

func (i diskInfo) Name() string { return i.name }
func (i diskInfo) Size() int64  { return i.size }
func (i diskInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir
	}
	return 0
}
func (i diskInfo) ModTime() time.Time { return time.Now() }
func (i diskInfo) IsDir() bool        { return i.dir }
func (i diskInfo) Sys() any           { return nil }

// Crash is a state in which a power loss may leave a disk.
type Crash struct {
	At    int   // steps of the log that were made
	Noted int64 // the last number noted before
	// Seen names the files that can be reached, with what they hold, but for those under
	// .tmp. Crashes of one disk with the same Seen differ in nothing that Store shows.
	Seen string

	disk  *Disk
	names entries
	cuts  map[inode]cut
}

// cut is a file that lost data: so many bytes are there, and the blocks are zero.
type cut struct {
	size int
	zero []int // offsets of blocks
}

// Crashes calls see for the states in which a power loss may leave the disk after each
// number of steps of the log, until it returns false. Whether a change of names since the
// last sync of its directory came to the disk, and what of the data since the last sync of
// its file, is chosen in every combination, or by chance where there are more than most.
func (d *Disk) Crashes(most int, rng *rand.Rand, see func(Crash) bool) {
	w := &diskWalk{d: d, names: d.base.clone(), files: map[inode]*dataWalk{}, shown: map[inode]bool{}, rng: rng}
	for at := 0; ; at++ {
		if !w.images(at, most, see) || at == len(d.log) {
			return
		}
		w.step(d.log[at])
	}
}

// Lost returns the disk as it is after a power loss now that leaves nothing that need not
// be left.
func (d *Disk) Lost() *Disk {
	w := &diskWalk{d: d, names: d.base.clone(), files: map[inode]*dataWalk{}, shown: map[inode]bool{}}
	for _, op := range d.log {
		w.step(op)
	}
	c := w.image(len(d.log), 0)
	return c.Mount()
}

func (e entries) clone() entries {
	c := entries{}
	for dir, names := range e {
		c[dir] = maps.Clone(names)
	}
	return c
}

// diskWalk follows a log and knows what is durable.
type diskWalk struct {
	d       *Disk
	rng     *rand.Rand
	names   entries
	pending []diskOp // changes of names that may come to the disk or not
	files   map[inode]*dataWalk
	dirty   []inode        // files with data that may come to the disk or not, in order
	shown   map[inode]bool // files that ever had a name outside .tmp
	noted   int64
}

// dataWalk is what is durable of a file.
type dataWalk struct {
	written, tried, synced int
	given                  [][2]int // up, by a sync that failed
}

func (f *dataWalk) dirty() bool { return f.written > f.synced || len(f.given) > 0 }

func (w *diskWalk) step(op diskOp) {
	switch op.kind {
	case diskEntry:
		w.pending = append(w.pending, op)
		to := op.changes[0].to
		if int(to) >= w.d.old && w.files[to] == nil {
			w.files[to] = &dataWalk{}
		}
		w.shown[to] = w.shown[to] || !op.hidden()
	case diskSyncDir:
		w.syncDir(op.dir)
	case diskNote:
		w.noted = op.note
	default:
		w.data(op)
	}
}

// syncDir makes the changes that touch a directory durable. A change between two
// directories is durable with the first of them, because it is one.
func (w *diskWalk) syncDir(dir string) {
	var open []diskOp
	for _, op := range w.pending {
		if slices.ContainsFunc(op.changes, func(c change) bool { return c.dir == dir }) {
			w.names.apply(op.changes)
			continue
		}
		open = append(open, op)
	}
	w.pending = open
}

func (w *diskWalk) data(op diskOp) {
	f := w.files[op.ino]
	switch op.kind {
	case diskWrite:
		f.written = op.n
	case diskSync:
		f.synced, f.tried = f.written, f.written
	case diskSyncFailed:
		f.given, f.tried = append(f.given, [2]int{f.tried, f.written}), f.written
	}
	w.dirty = slices.DeleteFunc(w.dirty, func(i inode) bool { return i == op.ino })
	if f.dirty() {
		w.dirty = append(w.dirty, op.ino)
	}
}

// fates is in how many ways unsynced data of a file is left: none of it, all, the first
// part, all but with blocks that are zero.
const fates = 4

// hidden tells whether an op changes names under .tmp alone, which nobody reads.
func (op diskOp) hidden() bool {
	return !slices.ContainsFunc(op.changes, func(c change) bool { return path.Base(c.dir) != ".tmp" })
}

// images calls see for every choice at this point, or for most of them. There is one
// choice for all that is hidden.
func (w *diskWalk) images(at, most int, see func(Crash) bool) bool {
	total := fates
	for _, op := range w.pending {
		if !op.hidden() {
			total = min(total*2, 1<<30)
		}
	}
	for _, ino := range w.dirty {
		if w.shown[ino] {
			total = min(total*fates, 1<<30)
		}
	}
	for n := range min(total, most) {
		choice := n
		if total > most && n > 0 { // 0 first: nothing is left
			choice = w.rng.IntN(total)
		}
		if !see(w.image(at, choice)) {
			return false
		}
	}
	return true
}

func (w *diskWalk) image(at, choice int) Crash {
	choose := func(of int) int {
		c := choice % of
		choice /= of
		return c
	}
	hidden := choose(fates)
	c := Crash{At: at, Noted: w.noted, disk: w.d, names: w.names.clone(), cuts: map[inode]cut{}}
	for _, op := range w.pending {
		if op.hidden() && hidden > 0 || !op.hidden() && choose(2) == 1 {
			c.names.apply(op.changes)
		}
	}
	for ino, f := range w.files {
		if f.written < len(w.d.data[ino]) { // it has grown since
			c.cuts[ino] = cut{size: f.written}
		}
	}
	for _, ino := range w.dirty {
		fate := hidden
		if w.shown[ino] {
			fate = choose(fates)
		}
		c.cuts[ino] = w.files[ino].left(fate, w.rng)
	}
	c.Seen = c.seen()
	return c
}

// left draws what a power loss leaves of a file. What lies before the last sync stays,
// but for what a sync that failed gave up.
func (f *dataWalk) left(fate int, rng *rand.Rand) cut {
	var c cut
	gone := f.given
	switch fate {
	case 0:
		c.size = f.synced
	case 1:
		return cut{size: f.written}
	case 2:
		c.size = f.synced
		if f.written > f.synced {
			c.size += rng.IntN(f.written - f.synced)
		}
	case 3:
		c.size = f.written
		gone = append(slices.Clone(gone), [2]int{f.synced, f.written})
	}
	for _, g := range gone {
		for at := g[0]; at < min(g[1], c.size); at += diskBlock {
			if fate == 0 || len(c.zero) == 0 || rng.IntN(2) == 0 {
				c.zero = append(c.zero, at)
			}
		}
	}
	return c
}

// seen walks down from the root: what an unsynced directory holds cannot be reached.
func (c *Crash) seen() string {
	var all []string
	var walk func(dir string)
	walk = func(dir string) {
		for name, ino := range c.names[dir] {
			full := path.Join(dir, name)
			switch {
			case ino == isDir && name == ".tmp":
			case ino == isDir:
				all = append(all, full+"/")
				walk(full)
			default:
				text := fmt.Sprintf("%s=%d", full, ino)
				if cut, ok := c.cuts[ino]; ok {
					text += fmt.Sprint(cut)
				}
				all = append(all, text)
			}
		}
	}
	walk("/")
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// Mount returns a disk that holds what the power loss left, all of it durable.
func (c *Crash) Mount() *Disk {
	d := NewDisk()
	var copyDir func(dir string)
	copied := map[inode]inode{}
	copyDir = func(dir string) {
		d.live[dir] = map[string]inode{}
		for name, ino := range c.names[dir] {
			if ino == isDir {
				d.live[dir][name] = isDir
				copyDir(path.Join(dir, name))
				continue
			}
			if _, ok := copied[ino]; !ok {
				copied[ino] = inode(len(d.data))
				d.data = append(d.data, c.content(ino))
			}
			d.live[dir][name] = copied[ino]
		}
	}
	copyDir("/")
	d.base, d.old = d.live.clone(), len(d.data)
	return d
}

func (c *Crash) content(ino inode) []byte {
	b := c.disk.data[ino]
	left, ok := c.cuts[ino]
	if !ok {
		return b
	}
	b = bytes.Clone(b[:left.size])
	for _, at := range left.zero {
		clear(b[at:min(at+diskBlock, len(b))])
	}
	return b
}
