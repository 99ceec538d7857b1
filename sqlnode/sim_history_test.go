package sqlnode

import (
	"fmt"
	"sync"
	"time"
)

// simKind is what a key is.
type simKind int

const (
	simList    simKind = iota // appended to
	simPair                   // two lists in two rows that one batch appends to
	simCounter                // incremented
	simRow                    // created, compared and set, removed
	simTenant                 // a tenant of its own with one list, created and deleted by name
	simKinds
)

func (k simKind) String() string {
	return [...]string{"list", "pair", "counter", "row", "tenant"}[k]
}

// simKey names one thing of which each history speaks.
type simKey struct {
	tenant string
	kind   simKind
	round  int // the time in which it is used
	n      int
}

func (k simKey) name() string   { return fmt.Sprintf("%d.%d", k.round, k.n) }
func (k simKey) String() string { return fmt.Sprintf("%s %s %s", k.tenant, k.kind, k.name()) }

// simVerb is what an op does.
type simVerb int

const (
	simRead     simVerb = iota
	simAppend           // value, to a list, a pair or a tenant's list
	simAdd              // one to a counter
	simCreate           // a row that is not there, or a tenant
	simSwap             // a row that is old to value
	simRemove           // a row, or a tenant
	simWeak             // a read with a bound
	simBookmark         // a read of any age with a bookmark
)

func (v simVerb) String() string {
	return [...]string{"read", "append", "add", "create", "swap", "remove", "weak read", "read with a bookmark"}[v]
}

// simNothing is the state of what is not there.
const simNothing = "-"

// simOp is one request of a client, or one that was sent until it was answered.
type simOp struct {
	key    simKey
	verb   simVerb
	value  string
	old    string        // of swap
	bound  time.Duration // of weak reads
	least  string        // what a read with a bookmark must see at least
	marked bool          // a bookmark is sent
	fails  bool          // it is not to be sent on to another node

	client     int
	node       string // that was asked first
	by, role   string // that answered, as it says
	call, back int64  // order of all that clients send and hear
	at, until  time.Duration
	tries      int
	unknown    bool   // whether it happened is not known
	refused    bool   // it did not happen
	code       string // of the last error
	seen       string // by reads; after appends and adds
	yes        bool   // what rows answer
}

func (o *simOp) String() string {
	what := fmt.Sprintf("%s %s", o.verb, o.key)
	if o.value != "" {
		what += " " + o.value
	}
	if o.verb == simSwap {
		what += " for " + o.old
	}
	if o.verb == simWeak {
		what += fmt.Sprintf(" within %v", o.bound)
		if o.marked {
			what += " with a bookmark"
		}
	}
	told := o.seen
	switch {
	case o.unknown:
		told = "unknown (" + o.code + ")"
	case o.refused:
		told = "refused (" + o.code + ")"
	case o.verb == simCreate, o.verb == simSwap, o.verb == simRemove:
		told = fmt.Sprint(o.yes)
	}
	if o.unknown == o.refused && o.code != "" {
		told += " (" + o.code + ")"
	}
	return fmt.Sprintf("%5d to %5d, %v to %v, client %d at %s, by %s %s: %s: %s", o.call, o.back, o.at, o.until, o.client, o.node, o.role, o.by, what, told)
}

// simHistory is what clients did.
type simHistory struct {
	began time.Time

	mu struct {
		sync.Mutex
		clock int64
		times []time.Duration // of what has a place in the order: index 0 is place 1
		ops   map[simKey][]*simOp
		loose []*simOp // weak reads, and reads with a bookmark
		count map[string]int
		gap   time.Duration // the longest time between two acknowledged writes
		acked time.Duration
		wrong []string
	}
}

func newSimHistory() *simHistory {
	h := &simHistory{began: time.Now()}
	h.mu.ops, h.mu.count = map[simKey][]*simOp{}, map[string]int{}
	return h
}

// simRound is how long a key is used.
const simRound = 3 * time.Second

func (h *simHistory) round() int { return int(time.Since(h.began) / simRound) }

func (h *simHistory) begin(o *simOp) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.clock++
	o.call, o.at = h.mu.clock, time.Since(h.began)
	h.mu.times = append(h.mu.times, o.at)
}

func (h *simHistory) end(o *simOp) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.clock++
	o.back, o.until = h.mu.clock, time.Since(h.began)
	h.mu.times = append(h.mu.times, o.until)
	outcome := "ok"
	switch {
	case o.unknown:
		outcome = "unknown " + o.code
	case o.refused:
		outcome = "refused " + o.code
	}
	h.mu.count[o.verb.String()+" "+outcome]++
	if o.role == "replica" && outcome == "ok" {
		h.mu.count[o.verb.String()+" ok by a replica"]++
	}
	if o.verb >= simWeak {
		h.mu.loose = append(h.mu.loose, o)
		return
	}
	if outcome == "ok" && o.verb != simRead {
		h.mu.gap, h.mu.acked = max(h.mu.gap, o.until-h.mu.acked), o.until
	}
	h.mu.ops[o.key] = append(h.mu.ops[o.key], o)
}

// complain notes something that must not be. The first hundred are kept.
func (h *simHistory) complain(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.mu.wrong) < 100 {
		h.mu.wrong = append(h.mu.wrong, fmt.Sprintf(format, args...))
	}
}
