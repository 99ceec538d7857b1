package crr

import (
	"fmt"
	"time"
)

// SiteID is the number of a site: one copy of a tenant's file, as a writer. Numbers
// are given out by the strong schema, begin at 1, and are never used twice.
type SiteID uint32

// HLC is a reading of a hybrid logical clock: 48 bits of milliseconds since
// 1970, 16 bits of count. It names a transaction within its site.
type HLC uint64

const hlcCountBits = 16

// Time is the reading's part of wall-clock time.
func (h HLC) Time() time.Time { return time.UnixMilli(int64(h >> hlcCountBits)).UTC() }

// String prints the reading as time and count.
func (h HLC) String() string {
	if h == 0 {
		return "never"
	}
	return fmt.Sprintf("%s+%d", h.Time().Format("2006-01-02T15:04:05.000Z"), uint64(h)&(1<<hlcCountBits-1))
}

// hlcAt is the first reading of a moment; what lies before 1970 or beyond 48 bits is cut to them.
func hlcAt(t time.Time) HLC {
	ms := t.UnixMilli()
	return HLC(min(max(ms, 0), 1<<48-1)) << hlcCountBits
}

// Stamp names one transaction of one site. Stamps are totally ordered, by
// reading and then by site.
type Stamp struct {
	HLC  HLC
	Site SiteID
}

// Before says whether a is the older of two stamps.
func (a Stamp) Before(b Stamp) bool { return a.HLC < b.HLC || a.HLC == b.HLC && a.Site < b.Site }

// Zero says whether a is no stamp.
func (a Stamp) Zero() bool { return a.HLC == 0 }

func newest(a, b Stamp) Stamp {
	if a.Before(b) {
		return b
	}
	return a
}

// Guards against clocks that are off.
const (
	// DefaultMaxSkew is how far ahead of the local clock a change may be
	// stamped to be merged, and how far a site's clock may be off its peers' for it to write.
	DefaultMaxSkew = 5 * time.Second
	// AlarmSkew is what an operator should hear of.
	AlarmSkew = 500 * time.Millisecond
)

// clock makes the readings of one site. It belongs to the site's writer.
type clock struct {
	now  func() time.Time
	skew time.Duration // most that a reading may be ahead of now
	last HLC           // invariant: not below any reading given out or observed
}

// tick returns a reading above all that were given out or observed.
func (c *clock) tick() HLC {
	c.last = max(c.last+1, hlcAt(c.now()))
	return c.last
}

// observe makes later readings greater than h.
func (c *clock) observe(h HLC) { c.last = max(c.last, h) }

// check refuses a reading that is too far ahead to be merged now.
func (c *clock) check(s Stamp) error {
	if ahead := s.HLC.Time().Sub(c.now()); ahead > c.skew {
		return &SkewError{Stamp: s, Ahead: ahead}
	}
	return nil
}

// SkewError is a change that is stamped too far in the future. It is kept from
// being merged until its time has come: a fast clock delays its own site's changes only.
type SkewError struct {
	Stamp Stamp
	Ahead time.Duration // of the local clock
}

func (e *SkewError) Error() string {
	return fmt.Sprintf("crr: a change of site %d is stamped %v in the future; it is taken when that has passed", e.Stamp.Site, e.Ahead.Round(time.Millisecond))
}

// ClockError is a local clock that is too far off for this site to write.
type ClockError struct {
	Off time.Duration // ahead of the others, or of what this site wrote before; negative: behind
}

func (e *ClockError) Error() string {
	return fmt.Sprintf("crr: this site's clock is %v off; writes to conflict-free tables are refused until it is set right", e.Off.Round(time.Millisecond))
}
