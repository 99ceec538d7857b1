package exchange

import (
	"container/heap"
	"time"
)

// agenda is the tenants in the order in which they are to be looked at next. A tenant is in it once, at its earliest time.
type agenda struct{ list []*tenant }

// set has a tenant looked at no later than at.
func (a *agenda) set(t *tenant, at time.Time) {
	switch {
	case t.place == 0:
		t.at = at
		heap.Push(a, t)
	case at.Before(t.at):
		t.at = at
		heap.Fix(a, t.place-1)
	}
}

func (a *agenda) remove(t *tenant) {
	if t.place != 0 {
		heap.Remove(a, t.place-1)
	}
}

// due takes a tenant whose time has come; nil if there is none.
func (a *agenda) due(now time.Time) *tenant {
	if len(a.list) == 0 || a.list[0].at.After(now) {
		return nil
	}
	return heap.Pop(a).(*tenant)
}

// next is when one will be due; zero if there is none.
func (a *agenda) next() time.Time {
	if len(a.list) == 0 {
		return time.Time{}
	}
	return a.list[0].at
}

// Len implements heap.Interface.
func (a *agenda) Len() int { return len(a.list) }

// Less implements heap.Interface.
func (a *agenda) Less(i, j int) bool { return a.list[i].at.Before(a.list[j].at) }

// Swap implements heap.Interface.
func (a *agenda) Swap(i, j int) {
	a.list[i], a.list[j] = a.list[j], a.list[i]
	a.list[i].place, a.list[j].place = i+1, j+1
}

// Push implements heap.Interface.
func (a *agenda) Push(v any) {
	t := v.(*tenant)
	a.list = append(a.list, t)
	t.place = len(a.list)
}

// Pop implements heap.Interface.
func (a *agenda) Pop() any {
	n := len(a.list) - 1
	t := a.list[n]
	a.list[n], t.place = nil, 0
	a.list = a.list[:n]
	return t
}
