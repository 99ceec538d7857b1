package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// figure prints one result.
func (b *bench) figure(name string, value float64, unit string) {
	digits := 2
	switch {
	case value >= 1000:
		digits = 0
	case value >= 100:
		digits = 1
	}
	fmt.Fprintf(b.out, "figure %s %.*f %s\n", name, digits, value, unit)
}

// say prints a remark.
func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.out, "# "+format+"\n", args...) }

// median of a list that is not empty; of an even number the mean of the two in the middle.
func median(list []float64) float64 {
	s := slices.Sorted(slices.Values(list))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// ratios divides pairwise.
func ratios(ours, theirs []float64) []float64 {
	out := make([]float64, len(ours))
	for i := range ours {
		out[i] = ours[i] / theirs[i]
	}
	return out
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// spread prints a list of rates or times as its median and its range.
func spread(list []float64) string {
	return fmt.Sprintf("%.1f (%.1f to %.1f)", median(list), slices.Min(list), slices.Max(list))
}

// loadAverage is the machine's, over the last minute, or "unknown".
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}
