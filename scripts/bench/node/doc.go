// Command node measures one node: what SQL costs in it beside plain SQLite, what HTTP costs beside
// net/http, how many bytes a write takes in the log, and what many tenants take of memory and time.
//
//	scripts/bench-node [--quick]
//
// Each thing and what it is compared with take turns in short slices, in processes of their own,
// so that whatever else the machine does hurts both alike; a ratio is the median of several such
// rounds. Results are lines
//
//	figure NAME VALUE UNIT
//
// with ratios as ours to theirs, so that larger is better. docs/performance.md explains each of them.
package main
