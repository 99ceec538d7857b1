//go:build !race

package sqlite

// Effort divides the rounds of long tests.
const Effort = 1
