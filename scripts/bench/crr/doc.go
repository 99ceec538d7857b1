// Command crr measures conflict-free tables: what tracking costs a local write, what merging takes, the bytes in the file and on the wire,
// and, on nodes of one process over a network in memory with delays, when a write is seen elsewhere and what a hot counter sends.
//
// The sides of a ratio take turns in short slices, and a ratio is the median of three rounds: other work on the machine hurts both alike.
// With --crsqlite DIR, where the npm package @vlcn.io/crsqlite-wasm is installed, its merge takes its turns too.
package main
