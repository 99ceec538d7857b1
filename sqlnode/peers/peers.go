package peers

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/disk"
)

// UnknownError says that a node has no address here.
type UnknownError struct {
	Node    string
	Removed bool // it was removed from the cluster
}

// Error implements error.
func (e *UnknownError) Error() string {
	if e.Removed {
		return fmt.Sprintf("node %s was removed from the cluster", e.Node)
	}
	return fmt.Sprintf("node %s has no address here", e.Node)
}

// Peers are the addresses of the nodes of the cluster. Its methods may be called by several goroutines.
type Peers struct {
	fs   disk.FS
	path string

	writing sync.Mutex // held by Set

	mu struct {
		sync.Mutex
		state state // its maps are never changed, only replaced
		saved bool  // whether the file holds state
	}
}

// state is what the file says.
type state struct {
	addrs   map[string]string // by node
	removed map[string]struct{}
}

func (s state) equal(o state) bool {
	return maps.Equal(s.addrs, o.addrs) && maps.Equal(s.removed, o.removed)
}

// Open reads the addresses in the data directory dir; there are none if it has no file.
func Open(fsys disk.FS, dir string) (*Peers, error) {
	p := &Peers{fs: fsys, path: filepath.Join(dir, FileName)}
	b, err := disk.ReadFile(fsys, "peers.read", p.path, fileMax)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("peers: %w", err)
	default:
		s, err := decode(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.path, err)
		}
		p.mu.state, p.mu.saved = s, true
	}
	return p, nil
}

// Resolve gives the address at which a node is dialled, or an *UnknownError. It is for cluster.Config.Resolve.
func (p *Peers) Resolve(node string) (addr string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, gone := p.mu.state.removed[node]; gone {
		return "", &UnknownError{Node: node, Removed: true}
	}
	addr, ok := p.mu.state.addrs[node]
	if !ok {
		return "", &UnknownError{Node: node}
	}
	return addr, nil
}

// Removed says whether a node was removed from the cluster: nothing it says counts any more.
func (p *Peers) Removed(node string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, gone := p.mu.state.removed[node]
	return gone
}

// All returns a copy of the addresses, by node; removed nodes are not among them.
func (p *Peers) All() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.mu.state.addrs)
}

// Set replaces the addresses, by node, and the ids of removed nodes; a node that is in both is removed. The file is written only if
// it does not say the same. Values that can't be are refused and change nothing; after another error they count, but
// may be forgotten at the next start.
func (p *Peers) Set(addrs map[string]string, removed []string) error {
	s, err := makeState(addrs, removed)
	if err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	b, err := s.encode()
	if err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	same := p.mu.saved && p.mu.state.equal(s)
	p.mu.state, p.mu.saved = s, same
	p.mu.Unlock()
	if same {
		return nil
	}
	if err := disk.WriteFileAtomic(p.fs, "peers.write", p.path, b, 0o600); err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	p.mu.Lock()
	p.mu.saved = true
	p.mu.Unlock()
	return nil
}

// makeState checks what Set or the file says.
func makeState(addrs map[string]string, removed []string) (state, error) {
	if len(addrs) > addrsMax || len(removed) > removedMax {
		return state{}, fmt.Errorf("%d addresses and %d removed nodes: at most %d and %d are kept", len(addrs), len(removed), addrsMax, removedMax)
	}
	s := state{addrs: make(map[string]string, len(addrs)), removed: make(map[string]struct{}, len(removed))}
	for _, node := range removed {
		if err := cluster.CheckNode(node); err != nil {
			return state{}, fmt.Errorf("removed: %w", err)
		}
		s.removed[node] = struct{}{}
	}
	for _, node := range slices.Sorted(maps.Keys(addrs)) {
		if err := cluster.CheckNode(node); err != nil {
			return state{}, err
		}
		if err := checkAddr(addrs[node]); err != nil {
			return state{}, fmt.Errorf("node %s: %w", node, err)
		}
		if _, gone := s.removed[node]; !gone {
			s.addrs[node] = addrs[node]
		}
	}
	return s, nil
}
