package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
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

// quantile of a list; 0 of an empty one.
func quantile(list []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(list))
	if len(s) == 0 {
		return 0
	}
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

func median(list []float64) float64 { return quantile(list, 0.5) }

// profile starts a CPU profile, if a file for it is named.
func profile(name string) (stop func() error, err error) {
	if name == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error { pprof.StopCPUProfile(); return f.Close() }, nil
}
