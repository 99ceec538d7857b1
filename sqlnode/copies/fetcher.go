package copies

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// Member is another node that has the group.
type Member struct {
	Node  string // id: requests to it go to http://NODE/
	Voter bool
}

// Membership is who has a group.
type Membership struct {
	Others []Member // but this node: nearest and healthiest first
	Voter  bool     // this node votes in it
}

// Members knows who has a group now. It answers from memory.
type Members interface {
	Members(ctx context.Context) Membership
}

// FetcherConfig is what a Fetcher needs. Zero values mean the defaults.
type FetcherConfig struct {
	Group     *pagestore.Group
	Members   Members
	Transport http.RoundTripper // cluster.Net.HTTPTransport
	// Primary says whether this node leads the group now; nil means that it never does.
	Primary func() bool
	// HandOn, if not nil, is called while NeedsHandOn is true, now and then. It returns soon.
	HandOn func(ctx context.Context)
	// Parallel is how many copies are fetched at once (4).
	Parallel int
	// Stall is how long a source may send no byte before its connection is given up (30 s), and Standstill for how long after its newest byte a
	// copy is still gone on with (2 min).
	Stall, Standstill time.Duration
	// RetryMin and RetryMax bound the pause before a copy is tried again (500 ms, 30 s).
	RetryMin, RetryMax time.Duration
	Log                *slog.Logger
}

func (c *FetcherConfig) setDefaults() {
	orInt(&c.Parallel, 4)
	orDuration(&c.Stall, 30*time.Second)
	orDuration(&c.Standstill, 2*time.Minute)
	orDuration(&c.RetryMin, 500*time.Millisecond)
	orDuration(&c.RetryMax, 30*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Primary == nil {
		c.Primary = func() bool { return false }
	}
}

// FetcherStats counts what a Fetcher did.
type FetcherStats struct {
	Ailing   atomic.Int64 // copies that want to be replaced, when last looked at
	Active   atomic.Int64 // copies that are fetched now
	Fetched  atomic.Int64 // copies that took the place of one
	Partial  atomic.Int64 // of these, with only what changed
	Resumed  atomic.Int64 // times that one went on where it broke off
	Bytes    atomic.Int64 // received, also of copies that came to nothing
	Nanos    atomic.Int64 // spent on copies that took the place of one
	Errors   atomic.Int64 // sources that did not give a copy
	Refused  atomic.Int64 // of these, those that said why
	Damaged  atomic.Int64 // of these, copies that were not what they said
	TakenOut atomic.Int64 // copies taken out of service for a corrupt page
	Held     atomic.Int64 // times that a copy was not replaced, as no majority was seen to contradict it
}

// Fetcher replaces the copies of one group that are hollow, failed or rotten by those of other members.
type Fetcher struct {
	cfg    FetcherConfig
	client *http.Client
	handOn atomic.Bool
	Stats  FetcherStats
}

// NewFetcher makes a Fetcher. It starts nothing.
func NewFetcher(cfg FetcherConfig) *Fetcher {
	cfg.setDefaults()
	return &Fetcher{cfg: cfg, client: &http.Client{Transport: cfg.Transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}
}

// NeedsHandOn says that this node should not lead the group: a copy of it is out of service here, or is to be, and
// other members can go on with theirs.
func (f *Fetcher) NeedsHandOn() bool { return f.handOn.Load() }

// lookEvery is how often ailing copies are looked for without being told.
const lookEvery = time.Second

// attempt is what is known of one ailing copy.
type attempt struct {
	count   int // of tries that failed
	running bool
	due     time.Time
	handOn  bool
}

// outcome is how a try ended.
type outcome struct {
	id     wire.TenantID
	done   bool // nothing is to be done about the copy any more
	handOn bool
	after  time.Duration // at least, before the next
	soon   bool          // nothing went wrong: the pause need not grow
}

// Run looks for copies that ail, and replaces them, until ctx ends.
func (f *Fetcher) Run(ctx context.Context) error {
	var (
		wg       sync.WaitGroup
		attempts = map[wire.TenantID]*attempt{}
		ended    = make(chan outcome)
		running  int
		tick     = time.NewTicker(lookEvery)
	)
	defer tick.Stop()
	// A worker's outcome is not waited for when ctx has ended.
	defer wg.Wait()
	for {
		ailing := f.cfg.Group.Ailing()
		f.Stats.Ailing.Store(int64(len(ailing)))
		now := time.Now()
		seen := make(map[wire.TenantID]struct{}, len(ailing))
		for _, a := range ailing {
			id := a.Tenant.ID()
			seen[id] = struct{}{}
			t := attempts[id]
			if t == nil {
				t = &attempt{due: now}
				attempts[id] = t
			}
			if t.running || running == f.cfg.Parallel || now.Before(t.due) {
				continue
			}
			t.running = true
			running++
			count := t.count
			wg.Go(func() {
				o := f.attend(ctx, a, count)
				select {
				case ended <- o:
				case <-ctx.Done():
				}
			})
		}
		for id, t := range attempts {
			if _, ok := seen[id]; !ok && !t.running {
				delete(attempts, id)
			}
		}
		f.settleHandOn(ctx, ailing, attempts)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.cfg.Group.Ails():
		case <-tick.C:
		case o := <-ended:
			running--
			f.settle(attempts[o.id], o)
		}
	}
}

// settle notes how a try ended.
func (f *Fetcher) settle(t *attempt, o outcome) {
	t.running, t.handOn = false, o.handOn
	if o.done {
		t.count = 0
		o.soon = true
	}
	t.due = time.Now().Add(max(f.pause(t.count), o.after))
	if !o.soon {
		t.count++
	}
}

// pause is the time after n failures: it doubles, and is not the same for all who wait.
func (f *Fetcher) pause(n int) time.Duration {
	d := f.cfg.RetryMax
	if n < 20 {
		d = min(d, f.cfg.RetryMin<<n)
	}
	return d/2 + rand.N(d/2+1)
}

// settleHandOn tells whether some copy wants another node to lead.
func (f *Fetcher) settleHandOn(ctx context.Context, ailing []pagestore.Ailing, attempts map[wire.TenantID]*attempt) {
	// A copy that is out of service serves no writes. One in service goes on, until another was seen to be sound.
	want := slices.ContainsFunc(ailing, func(a pagestore.Ailing) bool { return !a.InService || attempts[a.Tenant.ID()].handOn })
	want = want && f.cfg.Primary() && slices.ContainsFunc(f.cfg.Members.Members(ctx).Others, func(m Member) bool { return m.Voter })
	if was := f.handOn.Swap(want); want && !was {
		f.cfg.Log.Warn("this node should not lead: copies of it are to be replaced", "group", f.cfg.Group.ID())
	}
	if want && f.cfg.HandOn != nil {
		f.cfg.HandOn(ctx)
	}
}
