package figures_test

import (
	"strings"
	"testing"

	"github.com/nearsql/nearsql/scripts/bench/figures"
)

func TestReport(t *testing.T) {
	var b strings.Builder
	r := figures.Report{Out: &b}
	r.Figure("a_vs_b", 3.14159, "x")
	r.Figure("size", 123.456, "B")
	r.Figure("rate", 12345.678, "per_s")
	r.Say("%d rounds", 3)
	const want = "figure a_vs_b 3.14 x\nfigure size 123.5 B\nfigure rate 12346 per_s\n# 3 rounds\n"
	if b.String() != want {
		t.Errorf("printed is\n%s, want\n%s", b.String(), want)
	}
}

func TestLists(t *testing.T) {
	if m := figures.Median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median is %v", m)
	}
	if m := figures.Median([]float64{3, 1, 2}); m != 2 {
		t.Errorf("median is %v", m)
	}
	if q := figures.Quantile([]float64{5, 4, 3, 2, 1}, 0.99); q != 5 {
		t.Errorf("the 0.99 quantile is %v", q)
	}
	if q := figures.Quantile(nil, 0.5); q != 0 {
		t.Errorf("a quantile of nothing is %v", q)
	}
	if r := figures.Ratios([]float64{2, 9}, []float64{1, 3}); r[0] != 2 || r[1] != 3 {
		t.Errorf("ratios are %v", r)
	}
	if s := figures.Spread([]float64{1, 2, 6}); s != "2.0 (1.0 to 6.0)" {
		t.Errorf("spread is %s", s)
	}
}
