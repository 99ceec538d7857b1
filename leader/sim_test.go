package leader_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/leader/leadertest"
)

var (
	simSeed    = flag.Uint64("sim.seed", 0, "run only this seed of TestFaults")
	simSeeds   = flag.Int("sim.seeds", 0, "how many seeds TestFaults runs; 0 for the default")
	simMinutes = flag.Int("sim.minutes", 20, "virtual minutes of each seed")
)

// op is what a client did. Its times are counted, not measured: two ops overlap
// or not, whatever the clock says.
type op struct {
	call, back int64
	entry      string // proposed; "" for a read
	state      leadertest.State
	err        error
}

func (o *op) unknown() bool {
	return o.entry != "" && o.err != nil && !o.refused()
}

// refused says whether the entry was surely not proposed.
func (o *op) refused() bool {
	return errors.As(o.err, new(*leader.NotPrimaryError)) || errors.As(o.err, new(*leader.OverloadedError))
}

// sim is one run: clients, and what befalls the nodes meanwhile.
type sim struct {
	t      *testing.T
	c      *leadertest.Cluster
	rng    *rand.Rand
	bursts sync.WaitGroup
	clock  atomic.Int64
	ended  atomic.Bool

	restored int // snapshots
	again    int // runs that ended with ErrRunAgain
	changes  int // of members
	faults   int
	failures int
	wiped    map[leader.NodeID]bool             // removed, with their disks
	disks    map[leader.NodeID]*disktest.Faults // of their lives

	mu struct {
		sync.Mutex
		ops []*op
	}
}

var simNodes = []leader.NodeID{"n1", "n2", "n3", "n4", "n5"}

// client proposes and reads until the end.
func (s *sim) client(n int, rng *rand.Rand) {
	for i := 0; !s.ended.Load(); i++ {
		time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
		l := s.c.Life(simNodes[rng.IntN(len(simNodes))])
		if rng.IntN(2) == 0 { // one that may be primary
			for _, id := range simNodes {
				if m := s.c.Life(id); m != nil && m.Group.Primary() == nil {
					l = m
				}
			}
		}
		if l == nil {
			continue
		}
		o := &op{}
		if rng.IntN(2) == 0 {
			o.entry = fmt.Sprintf("%d.%d", n, i)
		}
		o.call = s.clock.Add(1)
		s.do(l, o)
	}
}

func (s *sim) node() *leadertest.Node {
	all := s.c.Nodes()
	return all[s.rng.IntN(len(all))]
}

// lost counts a life's snapshots before it goes.
func (s *sim) lost(l *leadertest.Life) { s.restored += l.List.Restored() }

// fault lets something happen.
func (s *sim) fault() {
	s.faults++
	n := s.node()
	up := n.Life != nil
	switch s.rng.IntN(22) {
	case 0:
		if up {
			s.lost(n.Life)
			s.c.Kill(n.ID)
		}
	case 1:
		if up {
			s.lost(n.Life)
			s.c.Crash(n.ID, s.rng)
		}
	case 2:
		if up {
			s.lost(n.Life)
			if err := s.c.Stop(n.ID); err != nil && !errors.Is(err, leader.ErrRunAgain) && !errors.Is(err, syscall.EIO) {
				s.t.Errorf("%s ended with %v", n.ID, err)
			}
		}
	case 3: // all lose their power
		if s.rng.IntN(4) == 0 {
			for _, n := range s.c.Nodes() {
				if n.Life != nil {
					s.lost(n.Life)
					s.c.Crash(n.ID, s.rng)
				}
			}
		}
	case 4: // in one direction
		s.c.Net.Cut(n.ID, s.node().ID)
	case 5: // from all others
		for _, id := range simNodes {
			s.c.Net.Cut(n.ID, id)
			s.c.Net.Cut(id, n.ID)
		}
	case 6: // from the voters' answers alone
		for _, id := range simNodes {
			s.c.Net.Cut(id, n.ID)
		}
	case 7:
		s.c.Net.Break(n.ID, s.node().ID)
	case 8:
		for _, a := range simNodes {
			for _, b := range simNodes {
				s.c.Net.Delay(a, b, time.Duration(s.rng.IntN(60))*time.Millisecond)
			}
		}
	case 9, 10:
		if p := s.primary(); p != nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.rng.IntN(1000))*time.Millisecond)
			_ = p.Group.TransferLeadership(ctx, "")
			cancel()
		}
	case 11, 12, 13:
		if up {
			_ = n.Life.Group.Snapshot()
		}
	case 14, 15:
		s.changeMembers()
	case 16: // the log fails, once it is written to
		if up && s.disks[n.ID] != nil {
			ops := []string{"log.sync", "log.write", "logmeta.sync", "log.read"}
			s.disks[n.ID].Fail(ops[s.rng.IntN(len(ops))], 1+s.rng.IntN(3), syscall.EIO)
			s.failures++
		}
	case 17:
		s.burst()
	case 18, 19:
		s.depose()
	case 20, 21: // the disk takes its time
		if up && s.disks[n.ID] != nil {
			s.disks[n.ID].Delay("log.sync", time.Duration(1+s.rng.IntN(1500))*time.Millisecond)
		}
	}
}

// depose lets another node take over from a primary that does not hear of it,
// and goes on being asked.
func (s *sim) depose() {
	p := s.primary()
	if p == nil {
		return
	}
	conf, err := p.Group.Configuration()
	if err != nil {
		return
	}
	var next *leadertest.Life
	for _, m := range conf.Members {
		if l := s.c.Life(m.ID); l != nil && m.Voter && l != p {
			next = l
		}
	}
	if next == nil {
		return
	}
	term := p.Group.Stats().Term
	s.bursts.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = p.Group.TransferLeadership(ctx, next.Node)
	})
	if !leadertest.Wait(500*time.Millisecond, func() bool { return next.Group.Stats().Term > term }) {
		return
	}
	for _, id := range simNodes {
		s.c.Net.Cut(id, p.Node)
		if s.rng.IntN(2) == 0 {
			s.c.Net.Cut(p.Node, id)
		}
	}
	for range 10 {
		time.Sleep(50 * time.Millisecond)
		s.begin(next, fmt.Sprintf("after %d", s.clock.Load()))
		s.begin(p, "")
		if s.rng.IntN(10) == 0 {
			s.c.Net.Heal(simNodes[s.rng.IntN(len(simNodes))], p.Node)
		}
	}
}

// begin proposes or reads, without waiting.
func (s *sim) begin(l *leadertest.Life, entry string) {
	o := &op{entry: entry, call: s.clock.Add(1)}
	s.bursts.Go(func() { s.do(l, o) })
}

// do proposes or reads.
func (s *sim) do(l *leadertest.Life, o *op) {
	if o.entry != "" {
		o.state, o.err = l.Propose(o.entry)
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		o.state, o.err = l.Read(ctx)
		cancel()
	}
	o.back = s.clock.Add(1)
	s.mu.Lock()
	s.mu.ops = append(s.mu.ops, o)
	s.mu.Unlock()
}

// burst proposes much at once to whoever thinks to be primary.
func (s *sim) burst() {
	p := s.primary()
	if p == nil {
		return
	}
	for i := range 60 {
		s.begin(p, fmt.Sprintf("burst %d.%d", s.faults, i))
	}
}

func (s *sim) primary() *leadertest.Life {
	for _, n := range s.c.Nodes() {
		if n.Life != nil && n.Life.Group.Primary() == nil {
			return n.Life
		}
	}
	return nil
}

func (s *sim) changeMembers() {
	p := s.primary()
	if p == nil {
		return
	}
	conf, err := p.Group.Configuration()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	id := simNodes[s.rng.IntN(len(simNodes))]
	m, ok := conf.Member(id)
	voters := 0
	for _, m := range conf.Members {
		if m.Voter {
			voters++
		}
	}
	switch {
	case !ok:
		err = p.Group.AddLearner(ctx, id, conf.Index)
	case !m.Voter && s.rng.IntN(5) > 0:
		err = p.Group.Promote(ctx, id, conf.Index)
	case !m.Voter || voters > 2:
		err = p.Group.Remove(ctx, id, conf.Index)
		if err == nil && s.rng.IntN(2) == 0 && s.c.Life(id) != nil && s.c.Life(id) != p {
			// It starts with nothing then, when it is added again.
			s.lost(s.c.Life(id))
			s.c.Kill(id)
			s.wiped[id] = true
			for _, n := range s.c.Nodes() {
				if n.ID == id {
					n.Disk = disktest.NewMemFS()
				}
			}
		}
	default:
		return
	}
	if err == nil {
		s.changes++
	}
}

// revive starts what is down, and looks after what ended.
func (s *sim) revive(all bool) {
	for _, n := range s.c.Nodes() {
		if n.Life != nil {
			err, ended := n.Life.Ended()
			if !ended {
				continue
			}
			s.lost(n.Life)
			switch {
			case errors.Is(err, leader.ErrRunAgain):
				s.again++
				s.c.Kill(n.ID)
			case errors.Is(err, syscall.EIO):
				s.c.Crash(n.ID, s.rng)
			default:
				s.t.Errorf("%s ended with %v", n.ID, err)
				s.c.Kill(n.ID)
			}
		}
		if all || s.rng.IntN(3) == 0 {
			s.c.Start(n.ID)
		}
	}
}

// run is one seed.
func (s *sim) run(seed uint64, d time.Duration) {
	s.rng = rand.New(rand.NewPCG(seed, 1))
	s.c = leadertest.New(s.t, 3)
	s.c.Adjust = func(cfg *leader.Config) {
		cfg.TrailingBytes = int64(s.rng.IntN(3)) * 100
		if s.wiped[cfg.Node] {
			cfg.InitialVoters = nil // it waits to be added
		}
		s.disks[cfg.Node] = disktest.NewFaults(cfg.FS)
		cfg.FS = s.disks[cfg.Node]
		cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaseTimeout = 2*time.Second, 2*time.Second, time.Second
		cfg.CommitTimeout = 300 * time.Millisecond
		if s.rng.IntN(2) == 0 {
			cfg.StoreBeside = -1
		}
	}
	s.c.StartAll()
	s.c.Start("n4")
	s.c.Start("n5")
	var clients sync.WaitGroup
	for i := range 6 {
		rng := rand.New(rand.NewPCG(seed, uint64(100+i)))
		clients.Go(func() { s.client(i, rng) })
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(time.Duration(s.rng.IntN(6000)) * time.Millisecond)
		s.fault()
		s.revive(false)
		if s.rng.IntN(4) == 0 {
			s.c.Net.HealAll()
		}
		if s.rng.IntN(12) == 0 { // some peace
			s.revive(true)
			time.Sleep(10 * time.Second)
		}
	}
	s.ended.Store(true)
	s.c.Net.HealAll()
	for _, d := range s.disks {
		d.Heal()
	}
	s.revive(true)
	clients.Wait()
	s.bursts.Wait()
	s.check(s.settle())
}

// settle waits until all members have the same, and returns it.
func (s *sim) settle() []string {
	var entries []string
	last := ""
	ok := leadertest.Wait(3*time.Minute, func() bool {
		s.revive(true)
		p := s.primary()
		if p == nil {
			last = "no primary"
			return false
		}
		o := &op{entry: fmt.Sprintf("end.%d", s.clock.Load()), call: s.clock.Add(1)}
		o.state, o.err = p.Propose(o.entry)
		o.back = s.clock.Add(1)
		s.mu.ops = append(s.mu.ops, o)
		if o.err != nil {
			last = o.err.Error()
			return false
		}
		time.Sleep(2 * time.Second)
		conf, err := p.Group.Configuration()
		if err != nil {
			return false
		}
		for _, m := range conf.Members {
			l := s.c.Life(m.ID)
			if l == nil || l.List.State() != p.List.State() {
				last = fmt.Sprintf("%s has not what %s has", m.ID, p.Node)
				return false
			}
		}
		entries = p.List.Entries()
		return true
	})
	if !ok {
		for _, n := range s.c.Nodes() {
			if n.Life != nil {
				err, ended := n.Life.Ended()
				conf, _ := n.Life.Group.Configuration()
				s.t.Logf("%s: %d entries, %+v, %+v, ended %v %v", n.ID, n.Life.List.State().Len, n.Life.Group.Stats(), conf, ended, err)
			}
		}
		s.t.Fatalf("the nodes do not agree: %s", last)
	}
	for _, n := range s.c.Nodes() {
		if n.Life != nil {
			s.lost(n.Life)
		}
	}
	return entries
}

// check holds what clients were told against the final list.
func (s *sim) check(entries []string) {
	position := make(map[string]int)
	states := []leadertest.State{{}}
	for i, e := range entries {
		if _, ok := position[e]; ok {
			s.t.Errorf("entry %s is there twice", e)
		}
		position[e] = i + 1
		states = append(states, states[i].Append(e))
	}
	acked, unknown, reads := 0, 0, 0
	var history []porcupine.Operation
	for _, o := range s.mu.ops {
		at, there := position[o.entry]
		switch {
		case o.entry == "" && o.err != nil:
			continue
		case o.entry == "":
			reads++
			if o.state.Len > len(entries) || states[o.state.Len] != o.state {
				s.t.Errorf("a read saw %+v, which never was", o.state)
				continue
			}
		case o.err == nil:
			acked++
			if !there {
				s.t.Errorf("acknowledged entry %s is gone", o.entry)
				continue
			}
			if states[at] != o.state {
				s.t.Errorf("entry %s was acknowledged with %+v, and is at %d", o.entry, o.state, at)
			}
		case o.unknown():
			unknown++
			if !there {
				continue
			}
			o.state, o.back = states[at], s.clock.Load()+1 // it may have happened at any time since
		default:
			if there {
				s.t.Errorf("refused entry %s is there", o.entry)
			}
			continue
		}
		history = append(history, porcupine.Operation{ClientId: len(history), Input: o.entry, Call: o.call, Output: o.state, Return: o.back})
	}
	s.order(history)
	if result := porcupine.CheckOperationsTimeout(listModel, history, time.Minute); result != porcupine.Ok {
		s.t.Errorf("the history is not linearizable: %s", result)
	}
	s.t.Logf("%d acknowledged, %d unknown, %d reads, %d ops; %d faults, %d failures of logs, %d changes of members, %d snapshots restored, %d runs again",
		acked, unknown, reads, len(s.mu.ops), s.faults, s.failures, s.changes, s.restored, s.again)
}

// order checks directly what porcupine checks by searching, and names the ops:
// none may see less than another that was answered before it was called.
func (s *sim) order(history []porcupine.Operation) {
	byBack := slices.Clone(history)
	slices.SortFunc(byBack, func(a, b porcupine.Operation) int { return int(a.Return - b.Return) })
	byCall := slices.Clone(history)
	slices.SortFunc(byCall, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	seen, i := porcupine.Operation{Output: leadertest.State{}}, 0
	for _, o := range byCall {
		for ; i < len(byBack) && byBack[i].Return < o.Call; i++ {
			if byBack[i].Output.(leadertest.State).Len > seen.Output.(leadertest.State).Len {
				seen = byBack[i]
			}
		}
		now, before := o.Output.(leadertest.State).Len, seen.Output.(leadertest.State).Len
		if now < before || now == before && o.Input != "" {
			s.t.Errorf("%q at %d to %d was at %d, but %q at %d to %d, before, at %d", o.Input, o.Call, o.Return, now, seen.Input, seen.Call, seen.Return, before)
			return
		}
	}
}

// listModel is one list that is appended to and read.
var listModel = porcupine.Model{
	Init: func() any { return leadertest.State{} },
	Step: func(state, input, output any) (bool, any) {
		now := state.(leadertest.State)
		if entry := input.(string); entry != "" {
			now = now.Append(entry)
		}
		return now == output.(leadertest.State), now
	},
}

// TestFaults is a group under random faults. What its clients were told must
// be as if there had been one list all the time.
func TestFaults(t *testing.T) {
	seeds := *simSeeds
	if seeds == 0 {
		seeds = 8
	}
	if testing.Short() {
		seeds = 2
	}
	first := uint64(1)
	if *simSeed > 0 {
		first, seeds = *simSeed, 1
	}
	for i := range seeds {
		seed := first + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &sim{t: t, wiped: make(map[leader.NodeID]bool), disks: make(map[leader.NodeID]*disktest.Faults)}
				s.run(seed, time.Duration(*simMinutes)*time.Minute)
			})
		})
	}
}
