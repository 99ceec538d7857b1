//go:build race

package sqlite

// Effort divides the rounds of long tests: the race detector makes SQLite
// about 20 times slower.
const Effort = 8
