//go:build race

package engine

// raceEnabled: SQLite's own page cache has the mutex under which one of its counters is changed; with ours
// in its place the counter is changed without, which the race detector sees.
const raceEnabled = true

// slowdown is what the race detector makes of SQLite, about.
const slowdown = 10
