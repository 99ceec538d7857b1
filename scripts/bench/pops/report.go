package main

import "fmt"

// report prints what follows from all stages.
func (b *bench) report(stages []stage) {
	var x, y []float64
	for _, s := range stages {
		if s.followers <= 20 {
			x, y = append(x, float64(s.followers)), append(y, s.cpu)
		}
		if s.followers == 20 {
			b.Figure("stream_bytes_insert", s.all/float64(s.followers), "B")
		}
		if s.followers > 0 {
			b.Figure(fmt.Sprintf("pops_voter_bytes_%d", s.followers), s.voters, "B")
		}
	}
	b.Figure("pops_cpu_per_follower", slope(x, y), "us")
	voters := map[int]float64{}
	for _, s := range stages {
		voters[s.followers] = s.voters
	}
	if voters[5] > 0 && voters[50] > 0 {
		b.Figure("primary_bytes_50_vs_5_replicas", voters[50]/voters[5], "x")
	}
}

// slope is that of the line nearest to the points, by least squares.
func slope(x, y []float64) float64 {
	var mx, my, xy, xx float64
	for i := range x {
		mx += x[i] / float64(len(x))
		my += y[i] / float64(len(x))
	}
	for i := range x {
		xy += (x[i] - mx) * (y[i] - my)
		xx += (x[i] - mx) * (x[i] - mx)
	}
	if xx == 0 {
		return 0
	}
	return xy / xx
}
