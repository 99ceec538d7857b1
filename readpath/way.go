package readpath

import (
	"fmt"
	"time"
)

// Way is how a strong read on a copy that follows comes to see what it must. Both ways are linearizable: which is taken is a question of time alone.
type Way uint8

const (
	// ByIndex asks the group's voters for its index, and reads the copy once that shows it.
	ByIndex Way = 1
	// ByVoter forwards the read to a node that votes.
	ByVoter Way = 2
)

// String names the way as metrics do.
func (w Way) String() string {
	switch w {
	case ByIndex:
		return "index"
	case ByVoter:
		return "forward"
	}
	return fmt.Sprintf("way(%d)", uint8(w))
}

// How measures are weighed. A measure counts for half if the one before is a second old or older, and for less when they come more often, so that an
// average is one of some seconds; one that is much longer than those before counts as four times as long, so that it does not change the way alone.
const (
	wayWindow   = 2 * time.Second
	wayForgets  = time.Minute // the average of measures before that is of no weight
	wayOutlier  = 4           // times the average
	wayNoise    = 10 * time.Millisecond
	wayLeast    = time.Millisecond       // what another way must be quicker by, beside a fifth of what the present one takes
	wayAgain    = time.Second            // how long after a way was tried it is tried again only to be measured
	wayUnknown  = 500 * time.Millisecond // how long the index is waited for when nothing is known of that, and
	wayAtLeast  = 100 * time.Millisecond // when something is,
	wayAtMost   = 2 * time.Second
	wayOnlyMost = 3 * time.Second // and when there is no other way
)

// WayTime is what a node has measured of a way. It is a value; the zero one is that of a way that was never taken.
type WayTime struct {
	Recent time.Duration // what it took lately; 0 if not known
	At     time.Time     // when it was last tried
	Failed bool          // it could not be taken then
}

// Took is t after the way was taken once more, in d.
func (t WayTime) Took(d time.Duration, at time.Time) WayTime {
	d = max(d, time.Microsecond)
	if since := at.Sub(t.At); t.Recent > 0 && !t.Failed && since < wayForgets {
		d = min(d, wayOutlier*t.Recent+wayNoise)
		weight := min(max(float64(since)/float64(wayWindow), 0.125), 0.5)
		d = t.Recent + time.Duration(float64(d-t.Recent)*weight)
	}
	return WayTime{Recent: d, At: at}
}

// Missed is t after the way could not be taken.
func (t WayTime) Missed(at time.Time) WayTime {
	t.At, t.Failed = at, true
	return t
}

// good says whether the way can be compared with another.
func (t WayTime) good() bool { return t.Recent > 0 && !t.Failed }

// WayFacts are what ChooseWay looks at.
type WayFacts struct {
	Askable   bool // the copy's feeder can be asked, and sends the copy what it lacks
	Elsewhere bool // a node is known that the read can be forwarded to
	OnStale   OnStale
	Last      Way // that was chosen before; 0 for none
	Index     WayTime
	Voter     WayTime
	Now       time.Time
	Time      time.Duration // what the request has; 0 if it has no bound of its own
}

// WayChoice is how a strong read goes.
type WayChoice struct {
	Way Way
	// Limit, with ByIndex: how long that may take, until the other way is taken or there is none.
	Limit time.Duration
	// Only says that there is no other way.
	Only bool
	// MeasureIndex and MeasureVoter: that way is to be tried beside the read, so that it is known what it takes.
	MeasureIndex, MeasureVoter bool
}

// ChooseWay says how a strong read goes on a copy that follows. The way that was taken last stays unless the other is quicker by more than a fifth and a
// millisecond. A way that is not taken, and the forwarding that a node can't time, is measured beside reads, once a second at most. It has no other input
// than its argument.
func ChooseWay(f *WayFacts) WayChoice {
	if f.OnStale == StaleFails || f.Askable && !f.Elsewhere {
		c := WayChoice{Way: ByIndex, Limit: f.limit(wayUnknown, wayOnlyMost, wayOnlyMost), Only: true}
		if f.Time > 0 {
			c.Limit = min(c.Limit, f.Time)
		}
		return c
	}
	if !f.Askable {
		return WayChoice{Way: ByVoter, Only: true}
	}
	c := WayChoice{Way: f.quicker()}
	if c.Way == ByIndex {
		c.Limit = f.limit(wayAtLeast, wayUnknown, wayAtMost)
		if f.Time > 0 {
			c.Limit = min(c.Limit, f.Time/2) // the rest is for the other way
		}
	}
	c.MeasureIndex = c.Way != ByIndex && f.Now.Sub(f.Index.At) >= wayAgain
	c.MeasureVoter = f.Now.Sub(f.Voter.At) >= wayAgain
	return c
}

// quicker is the way to take where both can be.
func (f *WayFacts) quicker() Way {
	switch index, voter := f.Index.Recent, f.Voter.Recent; {
	case f.Voter.Failed:
		return ByIndex // if that fails too, the read is forwarded all the same
	case f.Index.Failed, !f.Index.good():
		return ByVoter
	case !f.Voter.good():
		return ByIndex
	case f.Last == ByVoter && muchLess(index, voter), f.Last == ByIndex && !muchLess(voter, index):
		return ByIndex
	case f.Last == 0 && index <= voter:
		return ByIndex
	}
	return ByVoter
}

// muchLess says whether a is less than b by more than what comes and goes.
func muchLess(a, b time.Duration) bool { return a+a/4+wayLeast < b }

// limit is how long the index is waited for: a few times as long as it takes, from least to most.
func (f *WayFacts) limit(least, unknown, most time.Duration) time.Duration {
	if !f.Index.good() {
		return unknown
	}
	return min(max(wayOutlier*f.Index.Recent, least), most)
}
