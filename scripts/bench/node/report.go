package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// figure prints one result.
func (b *bench) figure(name string, value float64, unit string) {
	fmt.Fprintf(b.out, "figure %s %s %s\n", name, digits(value), unit)
}

// say prints a remark.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.out, "# "+format+"\n", args...)
}

// digits prints what is significant of v.
func digits(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

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

// loadAverage is the machine's, over the last minute, or "unknown".
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}
