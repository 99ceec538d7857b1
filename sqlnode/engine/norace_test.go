//go:build !race

package engine

const raceEnabled = false

const slowdown = 1
