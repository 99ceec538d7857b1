package disktest

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nearsql/nearsql/disk"
)

// MemFS is a file system in memory with the durability that package disk
// promises and no more. Its root "/" exists. It stands for one machine's disk;
// a crash is a new MemFS made of the old one, so that what still runs on the
// old one disturbs nobody.
type MemFS struct {
	mu struct {
		sync.Mutex
		root     *node
		used     int64 // invariant: the sum of the sizes of all files that have a name
		capacity int64 // 0 is unlimited
	}
}

var _ disk.FS = (*MemFS)(nil)

// NewMemFS returns an empty disk.
func NewMemFS() *MemFS {
	m := &MemFS{}
	m.mu.root = &node{mode: fs.ModeDir | 0o755, modTime: time.Now(), dir: newDirectory()}
	return m
}

// SetCapacity bounds the sum of all file sizes, in bytes; what would exceed it
// fails with ENOSPC. 0 means no bound.
func (m *MemFS) SetCapacity(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.capacity = n
}

// Used returns the sum of the sizes of all files, in bytes.
func (m *MemFS) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.used
}

// Clone returns a copy: the same contents, and the same of it durable.
func (m *MemFS) Clone() *MemFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	copies := make(map[*node]*node)
	namings := make(map[*naming]*naming)
	c := &MemFS{}
	c.mu.root, c.mu.used, c.mu.capacity = m.mu.root.clone(copies, namings), m.mu.used, m.mu.capacity
	return c
}

// Kill returns the disk as it is after the process that uses it was killed:
// all that was written is there, but nothing became durable by it.
func (m *MemFS) Kill() *MemFS { return m.Clone() }

// Crash returns the disk as it may be after a power loss. What is not durable
// survives as rng decides: each write wholly, not at all, or any of its
// sectors; each new or changed name or none. With a nil rng only what is
// durable survives.
func (m *MemFS) Crash(rng *rand.Rand) *MemFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chosen)
	m.mu.root.choose(c, rng, make(map[*node]bool))
	after := &MemFS{}
	after.mu.capacity = m.mu.capacity
	after.mu.root = m.mu.root.crash(c, rng, make(map[*node]*node))
	after.mu.used = after.mu.root.size()
	return after
}

func (n *node) clone(copies map[*node]*node, namings map[*naming]*naming) *node {
	if c, ok := copies[n]; ok {
		return c
	}
	c := &node{mode: n.mode, modTime: n.modTime, gone: n.gone}
	copies[n] = c
	if n.dir == nil {
		c.file = n.file.clone()
		return c
	}
	c.dir = newDirectory()
	for name, child := range n.dir.now {
		c.dir.now[name] = child.clone(copies, namings)
	}
	for name, child := range n.dir.durable {
		c.dir.durable[name] = child.clone(copies, namings)
	}
	for _, p := range n.dir.pending {
		c.dir.pending = append(c.dir.pending, p.clone(copies, namings))
	}
	return c
}

func (n *naming) clone(copies map[*node]*node, namings map[*naming]*naming) *naming {
	if n == nil {
		return nil
	}
	if c, ok := namings[n]; ok {
		return c
	}
	c := &naming{remove: n.remove, add: n.add, durable: n.durable}
	namings[n] = c
	if n.node != nil {
		c.node = n.node.clone(copies, namings)
	}
	c.after = n.after.clone(copies, namings)
	return c
}

// choose visits every directory that a crash might leave.
func (n *node) choose(c chosen, rng *rand.Rand, seen map[*node]bool) {
	if n.dir == nil || seen[n] {
		return
	}
	seen[n] = true
	c.choose(n.dir, rng)
	for _, names := range []map[string]*node{n.dir.now, n.dir.durable} {
		for _, name := range slices.Sorted(maps.Keys(names)) { // in order: rng must decide the same again
			names[name].choose(c, rng, seen)
		}
	}
	for _, p := range n.dir.pending {
		if p.node != nil {
			p.node.choose(c, rng, seen)
		}
	}
}

func (n *node) crash(c chosen, rng *rand.Rand, copies map[*node]*node) *node {
	if after, ok := copies[n]; ok {
		return after
	}
	after := &node{mode: n.mode, modTime: n.modTime}
	copies[n] = after
	if n.dir == nil {
		now := n.file.crash(rng)
		after.file = contents{now: now, durable: now.clone()}
		return after
	}
	after.dir = newDirectory()
	names := n.dir.crash(c)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		child := names[name].crash(c, rng, copies)
		after.dir.now[name], after.dir.durable[name] = child, child
	}
	return after
}

// size is the sum of the sizes of all files at and below n.
func (n *node) size() int64 {
	if n.dir == nil {
		return n.file.now.size
	}
	var sum int64
	for _, child := range n.dir.now {
		sum += child.size()
	}
	return sum
}

// find returns the node of a name; m.mu is held.
func (m *MemFS) find(name string) (*node, error) {
	n := m.mu.root
	for part := range strings.SplitSeq(strings.Trim(filepath.ToSlash(filepath.Clean(name)), "/"), "/") {
		if part == "" || part == "." {
			continue
		}
		if n.dir == nil {
			return nil, syscall.ENOTDIR
		}
		child, ok := n.dir.now[part]
		if !ok {
			return nil, fs.ErrNotExist
		}
		n = child
	}
	return n, nil
}

// findParent returns the directory that a name is in, and the name there.
func (m *MemFS) findParent(name string) (*node, string, error) {
	name = filepath.Clean(name)
	parent, err := m.find(filepath.Dir(name))
	if err != nil {
		return nil, "", err
	}
	if parent.dir == nil {
		return nil, "", syscall.ENOTDIR
	}
	base := filepath.Base(name)
	if base == "." || base == string(filepath.Separator) {
		return nil, "", syscall.EINVAL
	}
	return parent, base, nil
}

// OpenFile implements disk.FS.
func (m *MemFS) OpenFile(op, name string, flag int, perm fs.FileMode) (disk.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.open(name, flag, perm)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return f, nil
}

func (m *MemFS) open(name string, flag int, perm fs.FileMode) (*memFile, error) {
	writable := flag&(os.O_WRONLY|os.O_RDWR) != 0
	n, err := m.find(name)
	switch {
	case err == nil && flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, fs.ErrExist
	case err == nil && n.dir != nil:
		return nil, syscall.EISDIR
	case err == nil && flag&os.O_TRUNC != 0 && writable:
		m.resize(n, 0)
	case err == nil:
	case flag&os.O_CREATE == 0:
		return nil, err
	default:
		parent, base, err := m.findParent(name)
		if err != nil {
			return nil, err
		}
		n = &node{mode: perm.Perm(), modTime: time.Now()}
		parent.dir.apply(&naming{add: base, node: n})
	}
	return &memFile{fs: m, node: n, name: name, flag: flag}, nil
}

// resize sets a file's size; m.mu is held and the space was checked.
func (m *MemFS) resize(n *node, size int64) {
	m.grow(n, size-n.file.now.size)
	n.file.apply(change{off: size})
	n.modTime = time.Now()
}

func (m *MemFS) grow(n *node, by int64) {
	if !n.gone {
		m.mu.used += by
	}
}

// fits says whether a file may grow to size.
func (m *MemFS) fits(n *node, size int64) error {
	if grow := size - n.file.now.size; grow > 0 && !n.gone && m.mu.capacity > 0 && m.mu.used+grow > m.mu.capacity {
		return syscall.ENOSPC
	}
	return nil
}

// Rename implements disk.FS.
func (m *MemFS) Rename(op, oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.rename(oldname, newname); err != nil {
		return &os.LinkError{Op: op, Old: oldname, New: newname, Err: err}
	}
	return nil
}

func (m *MemFS) rename(oldname, newname string) error {
	from, old, err := m.findParent(oldname)
	if err != nil {
		return err
	}
	n, ok := from.dir.now[old]
	if !ok {
		return fs.ErrNotExist
	}
	to, base, err := m.findParent(newname)
	if err != nil {
		return err
	}
	if replaced, ok := to.dir.now[base]; ok {
		switch {
		case replaced == n:
			return nil
		case replaced.dir != nil && len(replaced.dir.now) > 0:
			return syscall.ENOTEMPTY
		case (replaced.dir != nil) != (n.dir != nil):
			return fs.ErrExist
		}
		m.unlink(replaced)
	}
	if from == to {
		from.dir.apply(&naming{remove: old, add: base, node: n})
		return nil
	}
	add := &naming{add: base, node: n}
	to.dir.apply(add)
	from.dir.apply(&naming{remove: old, after: add})
	return nil
}

// Remove implements disk.FS.
func (m *MemFS) Remove(op, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, base, err := m.findParent(name)
	if err == nil {
		n, ok := parent.dir.now[base]
		switch {
		case !ok:
			err = fs.ErrNotExist
		case n.dir != nil && len(n.dir.now) > 0:
			err = syscall.ENOTEMPTY
		default:
			m.unlink(n)
			parent.dir.apply(&naming{remove: base})
			return nil
		}
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// RemoveAll implements disk.FS.
func (m *MemFS) RemoveAll(op, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, base, err := m.findParent(name)
	if err == nil {
		if n, ok := parent.dir.now[base]; ok {
			m.removeChildren(n)
			m.unlink(n)
			parent.dir.apply(&naming{remove: base})
		}
		return nil
	}
	if err == fs.ErrNotExist {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func (m *MemFS) removeChildren(n *node) {
	if n.dir == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(n.dir.now)) {
		child := n.dir.now[name]
		m.removeChildren(child)
		m.unlink(child)
		n.dir.apply(&naming{remove: name})
	}
}

// unlink is told of a file or an empty directory that loses its name.
func (m *MemFS) unlink(n *node) {
	m.mu.used -= n.size()
	n.gone = true
}

// MkdirAll implements disk.FS.
func (m *MemFS) MkdirAll(op, name string, perm fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.mu.root
	for part := range strings.SplitSeq(strings.Trim(filepath.ToSlash(filepath.Clean(name)), "/"), "/") {
		if part == "" || part == "." {
			continue
		}
		child, ok := n.dir.now[part]
		if !ok {
			child = &node{mode: fs.ModeDir | perm.Perm(), modTime: time.Now(), dir: newDirectory()}
			n.dir.apply(&naming{add: part, node: child})
		}
		if child.dir == nil {
			return &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
		}
		n = child
	}
	return nil
}

// ReadDir implements disk.FS.
func (m *MemFS) ReadDir(op, name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err == nil && n.dir == nil {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	var entries []fs.DirEntry
	for _, base := range slices.Sorted(maps.Keys(n.dir.now)) {
		entries = append(entries, fs.FileInfoToDirEntry(n.dir.now[base].info(base)))
	}
	return entries, nil
}

// Stat implements disk.FS.
func (m *MemFS) Stat(op, name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return n.info(filepath.Base(name)), nil
}

// SyncDir implements disk.FS.
func (m *MemFS) SyncDir(op, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err == nil && n.dir == nil {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	n.dir.sync()
	return nil
}

// SyncAll implements disk.FS.
func (m *MemFS) SyncAll(op string, names ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		n, err := m.find(name)
		if err == nil && n.dir != nil {
			err = syscall.EISDIR
		}
		if err != nil {
			return &fs.PathError{Op: op, Path: name, Err: err}
		}
		n.file.sync()
	}
	return nil
}

// failSync is what Faults tells of a SyncAll that it made fail.
func (m *MemFS) failSync(names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		if n, err := m.find(name); err == nil && n.dir == nil {
			n.file.failSync()
		}
	}
}
