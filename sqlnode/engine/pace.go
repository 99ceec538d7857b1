package engine

import "time"

const (
	// holdMax is the longest that requests wait for others to share a transaction with, while the writer is free.
	holdMax = 4 * time.Millisecond
	// returnMax is the longest that they wait, after answers left, for those who got them to ask again.
	returnMax = 2 * time.Millisecond
)

// pace decides when a writer begins the next group, so that groups are few and large when many requests are on
// their way, since each costs an entry on every voter: with the requests that wait as many as those under way,
// a tenant whose clients ask again when they are answered comes to two or three groups in turn, however long the
// way through the log is. A lone client's request never waits, nor does one of two; a third's may, but not for
// longer than a group takes, nor than holdMax, since the newest group began.
//
// Clients that are answered together ask again one after the other, as fast as they and the server get to it. So for a moment
// after answers have left, for no longer than a group takes, nor than returnMax, the next group also waits until as
// many requests have come as were answered: unless clients here don't ask again so soon.
type pace struct {
	underway int           // requests whose transaction has begun, and that are not answered
	newest   time.Time     // when the newest group began
	took     time.Duration // by a group until its answers left, smoothed

	left     time.Time // when the moment after answers began
	answered int       // requests whose answers left in it, or at its beginning
	owed     int       // of these, how many have not been made up for by new ones
	returns  float64   // share of such requests that were made up for in time, smoothed
}

// arrive counts a request that came.
func (p *pace) arrive() {
	if p.owed > 0 {
		p.owed--
	}
}

// begin counts a group of n requests.
func (p *pace) begin(n int, now time.Time) {
	p.underway += n
	p.newest = now
}

// end counts a group of n that began at a time as answered.
func (p *pace) end(n int, began, now time.Time) {
	p.underway -= n
	took := now.Sub(began)
	if p.took == 0 {
		p.took = took
	}
	p.took += (took - p.took) / 8
	if p.moment() <= now.Sub(p.left) {
		if p.answered > 0 {
			p.returns += (float64(p.answered-p.owed)/float64(p.answered) - p.returns) / 8
		}
		p.left, p.answered, p.owed = now, 0, 0
	}
	p.answered += n
	p.owed += n
}

// moment is how long after answers left those who got them are waited for.
func (p *pace) moment() time.Duration { return min(p.took, returnMax) }

// wait is how long the next group is to wait when so many requests are in line, if nothing happens meanwhile; 0 means that
// it begins now.
func (p *pace) wait(inLine int, now time.Time) time.Duration {
	var wait time.Duration
	if p.owed > 0 && p.returns >= 0.5 {
		wait = max(0, p.moment()-now.Sub(p.left))
	}
	if inLine < p.underway {
		wait = max(wait, min(p.took, holdMax)-now.Sub(p.newest))
	}
	return wait
}
