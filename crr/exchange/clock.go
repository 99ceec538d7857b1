package exchange

import (
	"cmp"
	"slices"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange/frame"
)

// clockSamples is of how many heartbeats the one with the shortest round trip counts.
const clockSamples = 8

// linkClock measures how far the other end's wall clock is from this one's. All of it is guarded by Exchange.mu.
type linkClock struct {
	echo, at int64 // newest heartbeat of the other end, and when it came; microseconds
	samples  []clockSample
}

// clockSample is one round trip of heartbeats.
type clockSample struct{ offset, trip time.Duration }

// beat makes a heartbeat.
func (c *linkClock) beat(now time.Time) frame.Heartbeat {
	return frame.Heartbeat{Now: now.UnixMicro(), Echo: c.echo, At: c.at}
}

// heard takes a heartbeat. As with NTP (RFC 5905, section 8): the offset is exact when both ways take equally long, and off by no more than half of the round trip.
func (c *linkClock) heard(h frame.Heartbeat, now time.Time) {
	t := now.UnixMicro()
	c.echo, c.at = h.Now, t
	if h.Echo == 0 {
		return
	}
	trip := (t - h.Echo) - (h.Now - h.At)
	if trip < 0 || trip > int64(time.Minute/time.Microsecond) {
		c.samples = nil // one of the clocks was set
		return
	}
	// Halved before they are added: clocks may show anything.
	offset := (h.At-h.Echo)/2 + (h.Now-t)/2
	if len(c.samples) == clockSamples {
		c.samples = c.samples[1:]
	}
	c.samples = append(c.samples, clockSample{time.Duration(clamp(offset)) * time.Microsecond, time.Duration(trip) * time.Microsecond})
}

// clamp keeps a difference in microseconds inside what a time.Duration holds.
func clamp(us int64) int64 {
	const most = int64(100*365*24) * int64(time.Hour/time.Microsecond)
	return min(max(us, -most), most)
}

// best is the most exact sample.
func (c *linkClock) best() (clockSample, bool) {
	if len(c.samples) == 0 {
		return clockSample{}, false
	}
	return slices.MinFunc(c.samples, func(a, b clockSample) int { return cmp.Compare(a.trip, b.trip) }), true
}

// ahead is how far a clock is ahead of the median of all, its own included, given how far the others are ahead of it. Of two in the
// middle the one nearer to its own counts, so that one other clock alone proves nothing.
func ahead(others []time.Duration) time.Duration {
	all := append([]time.Duration{0}, others...)
	slices.Sort(all)
	n := len(all)
	lo, hi := all[(n-1)/2], all[n/2]
	if lo.Abs() < hi.Abs() {
		return -lo
	}
	return -hi
}

// setAheadLocked takes what the clocks of all links say.
func (x *Exchange) setAheadLocked() {
	var others []time.Duration
	for _, l := range x.mu.links {
		if s, ok := l.clock.best(); ok && l.up {
			others = append(others, s.offset)
		}
	}
	is := ahead(others)
	was := time.Duration(x.ahead.Swap(int64(is)))
	if (was.Abs() > crr.AlarmSkew) != (is.Abs() > crr.AlarmSkew) {
		x.log.Warn("the local clock against those of other sites", "ahead", is, "others", len(others))
	}
}
