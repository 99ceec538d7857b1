package load

import (
	"math/bits"
	"time"
)

// Histogram counts durations, to 1.6 % of each. The zero Histogram is empty.
type Histogram struct {
	counts [64 * steps]int64
	n      int64
}

// steps is the number of buckets for each power of two.
const steps = 64

func bucket(ns uint64) int {
	if ns < steps {
		return int(ns)
	}
	e := bits.Len64(ns) - 7 // ns>>e lies in [64, 128)
	return (e+1)*steps + int(ns>>e) - steps
}

// top is the largest duration of a bucket.
func top(b int) time.Duration {
	if b < steps {
		return time.Duration(b)
	}
	e := b/steps - 1
	return time.Duration((uint64(b%steps+steps+1) << e) - 1)
}

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucket(uint64(max(d, 0)))]++
	h.n++
}

// Merge adds what o counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
}

// Count is the number of durations.
func (h *Histogram) Count() int64 { return h.n }

// Quantile is the duration that the part q of all (0.99, say) does not exceed; 0 when there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	want := int64(q*float64(h.n) + 0.999999)
	for i, c := range h.counts {
		if want -= c; c > 0 && want <= 0 {
			return top(i)
		}
	}
	return 0
}
