package main

import (
	"fmt"
	"sync"
	"time"
)

// kind is what a key is.
type kind int

// The kinds.
const (
	list     kind = iota // appended to
	register             // set, compared and set, created
)

func (k kind) String() string { return [...]string{"list", "register"}[k] }

// key names a list or a register.
type key struct {
	tenant string
	kind   kind
	round  int // the time in which it is used
	n      int
}

func (k key) name() string   { return fmt.Sprintf("%d.%d", k.round, k.n) }
func (k key) String() string { return fmt.Sprintf("%s %s %s", k.tenant, k.kind, k.name()) }

// verb is what an op does.
type verb int

// The verbs.
const (
	read    verb = iota
	appends      // value to a list
	set          // a register to value
	swap         // a register that is old to value
	create       // a register that is not there, as value
)

func (v verb) String() string { return [...]string{"read", "append", "set", "swap", "create"}[v] }

// state is what a key has. A list is its values with commas between.
type state struct {
	there bool
	text  string
}

// op is one request of a client.
type op struct {
	key   key
	verb  verb
	value string
	old   string // of swap

	client   int
	node     string // that was asked
	call     time.Duration
	back     time.Duration // since the start of the run; for an unknown outcome that of the run's end
	unknown  bool          // whether it happened is not known
	refused  bool          // it did not happen
	code     string        // of the error, if there was one
	seen     state         // by read; after appends
	happened bool          // swap and create: whether the answer said yes
}

func (o *op) String() string {
	what := fmt.Sprintf("%s %s", o.verb, o.key)
	if o.verb != read {
		what += " " + o.value
	}
	if o.verb == swap {
		what += " for " + o.old
	}
	told := "ok"
	switch {
	case o.unknown:
		told = "unknown (" + o.code + ")"
	case o.refused:
		told = "refused (" + o.code + ")"
	case o.verb == read || o.verb == appends:
		told = fmt.Sprintf("%v %q", o.seen.there, o.seen.text)
	case o.verb == swap || o.verb == create:
		told = fmt.Sprint(o.happened)
	}
	return fmt.Sprintf("%12s to %12s, client %d on %s: %s: %s", o.call, o.back, o.client, o.node, what, told)
}

// history is all that clients did.
type history struct {
	began time.Time

	mu struct {
		sync.Mutex
		ops      map[key][]*op
		open     map[int]int // ops under way, by round
		newest   int         // round that was begun
		counts   map[string]int
		acked    time.Duration // when the newest write was acknowledged
		gap      time.Duration // the longest time between such
		problems []string
		classes  map[string]int // problems of each class
	}
}

func newHistory() *history {
	h := &history{began: time.Now()}
	h.mu.ops = make(map[key][]*op)
	h.mu.open = make(map[int]int)
	h.mu.counts = make(map[string]int)
	h.mu.classes = make(map[string]int)
	return h
}

// roundTime is how long a key is used.
const roundTime = 2 * time.Second

// round is the one of now.
func (h *history) round() int { return int(time.Since(h.began) / roundTime) }

// begin notes that an op is sent.
func (h *history) begin(o *op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.open[o.key.round]++
	h.mu.newest = max(h.mu.newest, o.key.round)
	o.call = time.Since(h.began)
}

// end notes what became of it.
func (h *history) end(o *op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.back = time.Since(h.began)
	if h.mu.open[o.key.round]--; h.mu.open[o.key.round] == 0 {
		delete(h.mu.open, o.key.round)
	}
	h.mu.ops[o.key] = append(h.mu.ops[o.key], o)
	outcome := "ok"
	switch {
	case o.unknown:
		outcome = "unknown " + o.code
	case o.refused:
		outcome = "refused " + o.code
	case o.verb != read:
		h.mu.gap = max(h.mu.gap, o.back-h.mu.acked)
		h.mu.acked = o.back
	}
	what := "writes"
	if o.verb == read {
		what = "reads"
	}
	h.mu.counts[what+" "+outcome]++
}

// count counts what is in no history.
func (h *history) count(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.counts[what]++
}

// keptProblems bounds how many problems of a class are kept.
const keptProblems = 3

// complain notes something that must not be. Of each class the first are kept, the others counted.
func (h *history) complain(class, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.classes[class]++; h.mu.classes[class] <= keptProblems {
		h.mu.problems = append(h.mu.problems, class+": "+fmt.Sprintf(format, args...))
	}
}

// problems are the complaints so far.
func (h *history) problems() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.problems[:len(h.mu.problems):len(h.mu.problems)]
}

// ended are the ops of a round; false while one is under way or may yet begin.
func (h *history) ended(round int) (map[key][]*op, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.open[round] > 0 || h.round() <= round+1 {
		return nil, false
	}
	return h.pickLocked(func(k key) bool { return k.round == round }), true
}

// all are the ops of all keys. It is for when clients have ended.
func (h *history) all() map[key][]*op {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pickLocked(func(key) bool { return true })
}

func (h *history) pickLocked(want func(key) bool) map[key][]*op {
	out := make(map[key][]*op)
	for k, ops := range h.mu.ops {
		if want(k) {
			out[k] = ops[:len(ops):len(ops)]
		}
	}
	return out
}
