package exchange

import "github.com/nearsql/nearsql/wire"

// Queued is how many bytes wait: to be sent as pushes and as answers, and to be merged.
func (x *Exchange) Queued() (pushes, answers, merges int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, l := range x.mu.links {
		pushes += l.out.bytes
		for _, a := range l.out.turns {
			answers += a.queued
		}
	}
	return pushes, answers, x.mu.waiting
}

// Pulling is how many pulls and questions wait for an answer.
func (x *Exchange) Pulling() (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, l := range x.mu.links {
		n += len(l.pulls)
	}
	return n
}

// TellHeads sends the head of a tenant, as it is known, to all peers.
func (x *Exchange) TellHeads(id wire.TenantID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if t := x.mu.tenants[id]; t != nil {
		x.tellLocked(t, false)
	}
}
