// Package figures prints what benchmarks measured, alike in all of them: a line "figure NAME VALUE UNIT" for each result, and remarks
// that begin with #. Only the programs in scripts/bench import it.
package figures

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Main runs a program until it ends, or is interrupted. An error is printed after the program's name, and the process ends with 1.
func Main(name string, run func(ctx context.Context, args []string, out io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Report is where results are printed.
type Report struct {
	Out io.Writer
}

// Figure prints one result, with the digits that are significant. Units: x for ratios, per_s, B, B_per_s, MB, us, ms.
func (r Report) Figure(name string, value float64, unit string) {
	digits := 2
	switch {
	case value >= 1000:
		digits = 0
	case value >= 100:
		digits = 1
	}
	fmt.Fprintf(r.Out, "figure %s %.*f %s\n", name, digits, value, unit)
}

// Say prints a remark.
func (r Report) Say(format string, args ...any) { fmt.Fprintf(r.Out, "# "+format+"\n", args...) }

// Median of a list that is not empty; of an even number the mean of the two in the middle.
func Median(list []float64) float64 {
	s := slices.Sorted(slices.Values(list))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// Quantile of a list, q of 0 to 1; 0 of an empty one.
func Quantile(list []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(list))
	if len(s) == 0 {
		return 0
	}
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

// Ratios divides pairwise. Both lists are of the same length.
func Ratios(ours, theirs []float64) []float64 {
	out := make([]float64, len(ours))
	for i := range ours {
		out[i] = ours[i] / theirs[i]
	}
	return out
}

// Spread is a list that is not empty as its median and its range.
func Spread(list []float64) string {
	return fmt.Sprintf("%.1f (%.1f to %.1f)", Median(list), slices.Min(list), slices.Max(list))
}

// Milliseconds of d.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// LoadAverage is the machine's, over the last minute, or "unknown".
func LoadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}
