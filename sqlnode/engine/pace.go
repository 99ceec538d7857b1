package engine

import "time"

// holdMax is the longest that requests wait for others to share a transaction with, while the writer is free.
const holdMax = 4 * time.Millisecond

// pace decides when a writer begins the next group, so that groups are few and large when many requests are on
// their way, since each costs an entry on every voter: with the requests that wait as many as those under way,
// a tenant whose clients ask again when they are answered comes to two or three groups in turn, however long the
// way through the log is. A lone client's request never waits, nor does one of two; a third's may, but not for
// longer than a group takes, nor than holdMax, since the newest group began.
type pace struct {
	underway int           // requests whose transaction has begun, and that are not answered
	newest   time.Time     // when the newest group began
	took     time.Duration // by a group until its answers left, smoothed
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
}

// wait is how long the next group is to wait when so many requests are in line, if nothing happens meanwhile; 0 means that
// it begins now.
func (p *pace) wait(inLine int, now time.Time) time.Duration {
	if inLine >= p.underway {
		return 0
	}
	return max(0, min(p.took, holdMax)-now.Sub(p.newest))
}
