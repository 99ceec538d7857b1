package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// checkMax bounds the search through the history of one key.
const checkMax = 20 * time.Second

// shownOps bounds how many ops of a history are printed.
const shownOps = 60

// model is one key.
var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, input, _ any) (bool, any) {
		o := input.(*op)
		ok, next := step(s.(state), o)
		return ok, next
	},
	DescribeOperation: func(input, _ any) string { return input.(*op).String() },
}

// step says whether an op may have been told what it was told in a state, and what the state is then.
func step(s state, o *op) (bool, state) {
	next := state{true, o.value}
	switch o.verb {
	case read:
		return o.seen == s, s
	case appends:
		if s.there {
			next.text = s.text + "," + o.value
		}
		return o.unknown || o.seen == next, next
	case swap, create:
		can := !s.there
		if o.verb == swap {
			can = s.there && s.text == o.old
		}
		if !can {
			next = s
		}
		return o.unknown || o.happened == can, next
	}
	return true, next // set
}

// checkKey says why a history is not that of one copy; "" if it is, and undecided if the search takes too long. final is what the key has at the end, if
// that is known.
func checkKey(k key, ops []*op, final *state) (fault string, undecided bool) {
	var h []porcupine.Operation
	end := time.Duration(math.MaxInt64)
	for _, o := range ops {
		if o.refused || o.verb == read && o.unknown {
			continue
		}
		back := o.back
		if o.unknown {
			back = end
		}
		h = append(h, porcupine.Operation{ClientId: len(h), Input: o, Call: int64(o.call), Return: int64(back)})
	}
	if final != nil {
		last := time.Duration(0)
		for _, o := range ops {
			last = max(last, o.back)
		}
		o := &op{key: k, verb: read, seen: *final, node: "all", call: last + 1, back: last + 2}
		h = append(h, porcupine.Operation{ClientId: len(h), Input: o, Call: int64(o.call), Return: int64(o.back)})
		ops = append(ops, o)
		if k.kind == list {
			if fault := checkList(ops, *final); fault != "" {
				return describe(k, fault, ops), false
			}
		}
	}
	switch porcupine.CheckOperationsTimeout(model, h, checkMax) {
	case porcupine.Illegal:
		return describe(k, "the history is not linearizable", ops), false
	case porcupine.Unknown:
		return "", true
	}
	return "", false
}

// checkList looks for what was acknowledged, and for what was refused, in a list at the end. It names what the search would only find.
func checkList(ops []*op, final state) string {
	there := make(map[string]int)
	if final.there {
		for v := range strings.SplitSeq(final.text, ",") {
			there[v]++
		}
	}
	for _, o := range ops {
		if o.verb != appends {
			continue
		}
		n := there[o.value]
		delete(there, o.value)
		switch {
		case n > 1:
			return fmt.Sprintf("%s is there %d times", o.value, n)
		case n == 1 && o.refused:
			return fmt.Sprintf("%s was refused and is there", o.value)
		case n == 0 && !o.refused && !o.unknown:
			return fmt.Sprintf("%s was acknowledged and is lost", o.value)
		}
	}
	for v := range there {
		return fmt.Sprintf("%s is there and was never written", v)
	}
	return ""
}

// describe prints a fault with the ops of its key.
func describe(k key, fault string, ops []*op) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s; its history:\n", k, fault)
	byCall := slices.SortedFunc(slices.Values(ops), func(a, b *op) int { return int(a.call - b.call) })
	for i, o := range byCall {
		if i == shownOps {
			fmt.Fprintf(&b, "    … and %d more\n", len(byCall)-i)
			break
		}
		fmt.Fprintf(&b, "    %s\n", o)
	}
	return b.String()
}
