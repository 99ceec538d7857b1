package main

import (
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	line := "12 (a) b (c)) S 1 12 12 0 -1 4194560 100 0 0 0 250 75 0 0 20 0 9 0 100 1000 10"
	if d, ok := parseStat(line); !ok || d != 3250*time.Millisecond {
		t.Errorf("%v, %v", d, ok)
	}
	for _, bad := range []string{"", "1 (a) S 1", "1 (a) S 1 12 12 0 -1 4194560 100 0 0 0 x 75 0"} {
		if d, ok := parseStat(bad); ok {
			t.Errorf("%q: %v", bad, d)
		}
	}
}

func TestCost(t *testing.T) {
	c := cost{cpu: time.Second, work: 500, ok: true}
	if d, ok := c.each(); !ok || d != 2*time.Millisecond {
		t.Errorf("%v, %v", d, ok)
	}
	if _, ok := (&cost{ok: true}).each(); ok {
		t.Error("nothing was done, at no known cost")
	}
}
