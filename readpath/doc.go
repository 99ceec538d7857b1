// Package readpath decides where a read may run, and knows how fresh the copies of this node are.
//
// What holds:
//
//   - A node calls a copy fresh as of a moment t only on a pair (t, index): at t, on its own clocks, it sent a question to a group, and the
//     answer, confirmed by a majority of the group's voters after the question came, was index; and only when the copy contains all
//     of its tenant up to that index. Then it contains all that anybody was told of before t. No clock of another node is in that.
//   - How long ago t was is the largest of what three clocks say, plus 0.1 % ([Elapsed]). It is wrong only if none of them ran at
//     real rate. When the node's own ticks show a gap, as after a pause of the machine, all pairs are dropped ([Ticks]).
//   - Primary and voters are no exception: a deposed primary's questions are not confirmed, so its copies age ([Prober]).
//   - [Decide] is pure. A weak read is served only where the copy is fresh as of no earlier than the read's start less its bound, and
//     contains its bookmark; else it waits, goes to another node, or is refused: never served silently.
//   - [ChooseWay] is pure too: a strong read on a copy that follows goes the way that was quicker lately, by index or forwarded. Both are linearizable.
//
// The package knows positions and freshness, not SQL: sqlnode gathers the [Facts], runs the read where Decide says, and forwards.
// Package replica has the streams that copies follow, and the marks that say what a copy contains. DESIGN.md argues why a bound holds.
//
// Locks: Ticks.mu, Pairs.mu and Demand.mu; Pairs.mu before Ticks.mu.
package readpath
