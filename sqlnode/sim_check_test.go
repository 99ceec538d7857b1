package sqlnode

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// keys is all keys of which there is an op to check.
func (h *simHistory) keys() []simKey {
	keys := map[simKey]bool{}
	for k := range h.mu.ops {
		keys[k] = true
	}
	for _, o := range h.mu.loose {
		keys[o.key] = true
	}
	return slices.SortedFunc(maps.Keys(keys), func(a, b simKey) int { return strings.Compare(a.String(), b.String()) })
}

// check returns what is wrong, given what each key has at the end. Clients have ended.
func (h *simHistory) check(final map[simKey]string) []string {
	wrong := slices.Clone(h.mu.wrong)
	weak := map[simKey][]*simOp{}
	for _, o := range h.mu.loose {
		if o.refused || o.unknown {
			continue
		}
		if why := h.checkLoose(o, final[o.key]); why != "" {
			wrong = append(wrong, fmt.Sprintf("%s\n    %s", why, o))
		}
		if o.verb == simWeak && o.key.kind >= simRow {
			weak[o.key] = append(weak[o.key], o)
		}
	}
	for _, k := range h.keys() {
		if why := h.checkKey(k, h.mu.ops[k], weak[k], final[k]); why != "" {
			wrong = append(wrong, why)
		}
	}
	return wrong
}

// since is the place, in the order of all, of the first that was at that time or later.
func (h *simHistory) since(at time.Duration) int64 {
	i, _ := slices.BinarySearch(h.mu.times, at)
	return int64(i) + 1
}

// checkKey says why the history of a key is not that of one copy. A read with a bound is as if it had begun by that much earlier.
func (h *simHistory) checkKey(k simKey, ops, weak []*simOp, final string) string {
	const never = math.MaxInt64 / 4
	last := &simOp{key: k, verb: simRead, seen: final, node: "all", call: never, back: never + 1}
	ops = append(slices.Concat(ops, weak), last)
	var list []porcupine.Operation
	for _, o := range ops {
		if o.refused || o.verb == simRead && o.unknown {
			continue
		}
		call, back := 2*o.call, 2*o.back
		if o.verb == simWeak {
			call = 2*h.since(o.at-o.bound) - 1
		}
		if o.unknown {
			back = math.MaxInt64 // or never
		}
		list = append(list, porcupine.Operation{ClientId: len(list), Input: o, Call: call, Return: back})
	}
	why := ""
	if k.kind == simList || k.kind == simPair {
		why = checkSimList(ops, final)
	}
	if why == "" {
		switch porcupine.CheckOperationsTimeout(simModel, list, 20*time.Second) {
		case porcupine.Illegal:
			why = "the history is not linearizable"
		case porcupine.Unknown:
			h.mu.count["undecided"]++
		}
	}
	if why == "" {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s; its history:\n", k, why)
	slices.SortFunc(ops, func(a, b *simOp) int { return cmp.Compare(a.call, b.call) })
	for _, o := range ops {
		fmt.Fprintf(&b, "    %s\n", o)
	}
	return b.String()
}

// checkSimList names what the search would only find.
func checkSimList(ops []*simOp, final string) string {
	there := map[string]int{}
	for v := range strings.SplitSeq(final, ",") {
		there[v]++
	}
	for _, o := range ops {
		switch n := there[o.value]; {
		case o.verb != simAppend:
		case n > 1:
			return o.value + " is there more than once"
		case n == 1 && o.refused:
			return o.value + " was refused and is there"
		case n == 0 && !o.refused && !o.unknown:
			return o.value + " was acknowledged and is lost"
		}
	}
	return ""
}

// checkLoose says why a read that need not see the newest saw what it must not have.
func (h *simHistory) checkLoose(o *simOp, final string) string {
	switch o.key.kind {
	case simList, simPair:
		if !simPrefix(o.seen, final) {
			return "a state that never was, in the end it is " + final
		}
		if o.marked && !simPrefix(o.least, o.seen) {
			return "the bookmark had seen " + o.least
		}
	case simTenant:
		if o.marked && !simPrefix(o.least, o.seen) {
			return "the bookmark had seen " + o.least
		}
		return ""
	case simCounter:
		if o.marked && simCount(o.seen) < simCount(o.least) {
			return "the bookmark had seen " + o.least
		}
	default:
		return ""
	}
	if o.verb != simWeak {
		return ""
	}
	acked := 0
	for _, w := range h.mu.ops[o.key] {
		if w.verb == simRead || w.refused || w.unknown || w.until >= o.at-o.bound {
			continue
		}
		acked++
		if o.key.kind != simCounter && !simPrefix(w.seen, o.seen) {
			return "too old: it misses\n    " + w.String()
		}
	}
	if o.key.kind == simCounter && simCount(o.seen) < acked {
		return fmt.Sprintf("too old: %d were acknowledged", acked)
	}
	return ""
}

// simPrefix says whether a list was another once.
func simPrefix(a, b string) bool {
	return a == simNothing || a == b || strings.HasPrefix(b, a+",")
}

func simCount(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// simStep says whether an op may have been told what it was told in a state, and what the state is then.
func simStep(state string, o *simOp) (bool, string) {
	switch o.verb {
	case simAppend:
		next := o.value
		switch {
		case o.key.kind == simTenant && state == simNothing:
			return o.unknown, state // it may be that it never happens
		case state != simNothing && state != "":
			next = state + "," + o.value
		}
		return o.unknown || o.seen == next, next
	case simAdd:
		n, _ := strconv.Atoi(state)
		if state == simNothing {
			n = 0
		}
		next := strconv.Itoa(n + 1)
		return o.unknown || o.seen == next, next
	case simCreate:
		if state != simNothing {
			return o.unknown || !o.yes, state
		}
		next := o.value
		if o.key.kind == simTenant {
			next = ""
		}
		return o.unknown || o.yes, next
	case simSwap:
		if state == simNothing || state != o.old {
			return o.unknown || !o.yes, state
		}
		return o.unknown || o.yes, o.value
	case simRemove:
		return o.unknown || o.yes == (state != simNothing), simNothing
	}
	return o.seen == state, state
}

var simModel = porcupine.Model{
	Init: func() any { return simNothing },
	Step: func(state, input, _ any) (bool, any) {
		ok, next := simStep(state.(string), input.(*simOp))
		return ok, next
	},
}
