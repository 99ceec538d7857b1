package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// errEnded is why a Dial ends when the Net does.
var errEnded = fmt.Errorf("the node's network has ended: %w", net.ErrClosed)

// Net is one node's connections to the other nodes of its cluster.
type Net struct {
	cfg   Config
	log   *slog.Logger
	http  *http.Transport
	count counters

	goroutines sync.WaitGroup // of Run

	mu struct {
		sync.Mutex
		running  bool
		ended    bool // invariant: once set, no map below gets an element
		handlers map[Purpose]func(context.Context, *Conn)
		whole    map[Purpose]*Acceptor // of all groups
		groups   map[groupKey]*Acceptor
		grouped  map[Purpose]struct{}  // purposes that have connections by group, whether there is a group now or not
		halfOpen map[net.Conn]struct{} // accepted, without an answer yet
		conns    map[*Conn]struct{}
		dials    map[*dial]struct{}
	}
}

type groupKey struct {
	purpose Purpose
	group   wire.GroupID
}

// New returns a Net that takes no connections before Run, but can dial.
func New(cfg Config) (*Net, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	n := &Net{cfg: cfg, log: cfg.Log.With("node", cfg.Node)}
	n.count.quiet = warnEvery
	n.mu.handlers = make(map[Purpose]func(context.Context, *Conn))
	n.mu.whole = make(map[Purpose]*Acceptor)
	n.mu.groups = make(map[groupKey]*Acceptor)
	// A node without a group yet tells the others that it has not this group, not that it knows nothing of raft.
	n.mu.grouped = map[Purpose]struct{}{PurposeRaft: {}}
	n.mu.halfOpen = make(map[net.Conn]struct{})
	n.mu.conns = make(map[*Conn]struct{})
	n.mu.dials = make(map[*dial]struct{})
	n.http = n.newHTTPTransport()
	return n, nil
}

// Node is the id of this node.
func (n *Net) Node() string { return n.cfg.Node }

// Handle lets handle have each connection for the purpose, of whatever group, in a goroutine of its own. The connection is
// closed when handle returns. The context ends, and the connection is closed, when Run's ends; Run waits for handle.
func (n *Net) Handle(purpose Purpose, handle func(context.Context, *Conn)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.freeLocked(purpose); err != nil {
		return err
	}
	n.mu.handlers[purpose] = handle
	return nil
}

// Listen returns a listener of the connections for the purpose, of whatever group, until it is closed.
func (n *Net) Listen(purpose Purpose) (*Acceptor, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.freeLocked(purpose); err != nil {
		return nil, err
	}
	a := newAcceptor(n, groupKey{purpose: purpose}, true)
	n.mu.whole[purpose] = a
	return a, nil
}

// HandleGroup returns a listener of the connections for the purpose and group, until it is closed: from then on they are refused with
// CodeUnknownGroup, as they were before.
func (n *Net) HandleGroup(purpose Purpose, group wire.GroupID) (*Acceptor, error) {
	key := groupKey{purpose, group}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.ended {
		return nil, errEnded
	}
	if purpose == 0 {
		return nil, errors.New("cluster: purpose is 0")
	}
	if n.mu.groups[key] != nil || n.mu.whole[purpose] != nil || n.mu.handlers[purpose] != nil {
		return nil, fmt.Errorf("cluster: connections for %s of group %d are taken already", purpose, group)
	}
	a := newAcceptor(n, key, false)
	n.mu.groups[key] = a
	n.mu.grouped[purpose] = struct{}{}
	return a, nil
}

// freeLocked says whether all groups of a purpose can be had at once.
func (n *Net) freeLocked(purpose Purpose) error {
	if n.mu.ended {
		return errEnded
	}
	if purpose == 0 {
		return errors.New("cluster: purpose is 0")
	}
	taken := n.mu.handlers[purpose] != nil || n.mu.whole[purpose] != nil
	for key := range n.mu.groups {
		taken = taken || key.purpose == purpose
	}
	if taken {
		return fmt.Errorf("cluster: connections for %s are taken already", purpose)
	}
	return nil
}

// forget ends that the acceptor gets connections.
func (n *Net) forget(a *Acceptor) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.groups[a.key] == a {
		delete(n.mu.groups, a.key)
	}
	if n.mu.whole[a.key.purpose] == a {
		delete(n.mu.whole, a.key.purpose)
	}
}

// receiver is who gets a connection.
type receiver struct {
	handle func(context.Context, *Conn)
	accept *Acceptor // if handle is nil
}

// find says who gets a connection; if nobody, the code says why.
func (n *Net) find(key groupKey) (receiver, Code) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.ended {
		return receiver{}, CodeStopping
	}
	if h := n.mu.handlers[key.purpose]; h != nil {
		return receiver{handle: h}, CodeAccepted
	}
	if a := n.mu.whole[key.purpose]; a != nil {
		return receiver{accept: a}, CodeAccepted
	}
	if a := n.mu.groups[key]; a != nil {
		return receiver{accept: a}, CodeAccepted
	}
	if _, ok := n.mu.grouped[key.purpose]; ok {
		return receiver{}, CodeUnknownGroup
	}
	return receiver{}, CodeUnknownPurpose
}

// Run takes connections until ctx ends, when it returns nil, or until the listener fails for good. It then closes all
// connections, dialled ones too, and returns after its last goroutine and handler. An http.Server on an
// Acceptor is shut down before ctx ends if its answers should be finished. Run is called once.
func (n *Net) Run(ctx context.Context) error {
	n.mu.Lock()
	if n.mu.running {
		n.mu.Unlock()
		return errors.New("cluster: Run was called before")
	}
	n.mu.running = true
	n.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := context.AfterFunc(ctx, func() { _ = n.cfg.Listener.Close() })
	defer stopped()
	err := n.acceptAll(ctx)
	cancel()
	n.end()
	n.goroutines.Wait()
	return err
}

// Delays between tries when the listener fails, as it does when there are no more file descriptors.
const (
	acceptDelayMin = 5 * time.Millisecond
	acceptDelayMax = time.Second
)

// acceptAll starts a goroutine for each connection.
func (n *Net) acceptAll(ctx context.Context) error {
	delay := acceptDelayMin
	for {
		raw, err := n.cfg.Listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = raw.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("cluster listener: %w", err)
		}
		if err != nil {
			n.log.Warn("cluster listener: no connection", "error", err, "again_in", delay)
			select {
			case <-time.After(delay):
			case <-ctx.Done():
				return nil
			}
			delay = min(2*delay, acceptDelayMax)
			continue
		}
		delay = acceptDelayMin
		if !n.opened(raw) {
			n.count.drop()
			_ = raw.Close()
			continue
		}
		n.goroutines.Go(func() { n.serve(ctx, raw) })
	}
}

// opened notes a connection without a hello, if there is room for one.
func (n *Net) opened(raw net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.ended || len(n.mu.halfOpen) >= n.cfg.HalfOpenMax {
		return false
	}
	n.mu.halfOpen[raw] = struct{}{}
	return true
}

func (n *Net) answered(raw net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.mu.halfOpen, raw)
}

// keep notes an open connection; the code says why not.
func (n *Net) keep(c *Conn) Code {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.mu.ended:
		return CodeStopping
	case len(n.mu.conns) >= n.cfg.ConnsMax && !c.dialled:
		return CodeBusy
	}
	n.mu.conns[c] = struct{}{}
	return CodeAccepted
}

// drop forgets a connection that has been closed.
func (n *Net) drop(c *Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.mu.conns, c)
}

// Disconnect closes all connections to and from a node. One that was removed from the cluster must be refused by
// Admit before, or it comes back.
func (n *Net) Disconnect(node string) {
	n.closeConns(func(c *Conn) bool { return c.Peer() == node })
}

// closeConns closes the connections that which is true for.
func (n *Net) closeConns(which func(*Conn) bool) {
	n.mu.Lock()
	var found []*Conn
	for c := range n.mu.conns {
		if which(c) {
			found = append(found, c)
		}
	}
	n.mu.Unlock()
	// With TLS, closing may wait some seconds for a last word to be taken; those seconds are shared.
	var closing sync.WaitGroup
	for _, c := range found {
		closing.Go(func() { _ = c.Close() })
	}
	closing.Wait()
}

// end closes everything.
func (n *Net) end() {
	n.mu.Lock()
	n.mu.ended = true
	var open []net.Conn
	for raw := range n.mu.halfOpen {
		open = append(open, raw)
	}
	var acceptors []*Acceptor
	for _, a := range n.mu.whole {
		acceptors = append(acceptors, a)
	}
	for _, a := range n.mu.groups {
		acceptors = append(acceptors, a)
	}
	var dials []*dial
	for d := range n.mu.dials {
		dials = append(dials, d)
	}
	n.mu.Unlock()

	_ = n.cfg.Listener.Close()
	for _, d := range dials {
		d.cancel(errEnded)
	}
	for _, a := range acceptors {
		_ = a.Close()
	}
	for _, raw := range open {
		_ = raw.Close()
	}
	n.closeConns(func(*Conn) bool { return true })
	n.http.CloseIdleConnections()
}
