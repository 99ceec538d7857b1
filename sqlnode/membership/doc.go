// Package membership says by which steps a Raft group comes from the members that it has to those that it should have.
//
// [Next] is pure: a primary calls it with its configuration and what is wanted, does the one step that it
// names, and calls it again. What is wanted, and who is alive, may change in between; so may the primary, and the next
// one goes on from where the group is.
//
// What holds of its steps:
//
//   - One member changes at a time, and nobody votes who did not follow as a learner before.
//   - A voter that is wanted is never removed; so a group that has one keeps one.
//   - A voter that is alive and not wanted stays until as many others vote as are wanted; one that is dead
//     goes before learners are promoted, so that it does not count among those of whom a majority is needed.
//   - No step leaves a majority of the voters dead, where one was alive.
//   - The primary is never removed. One that is not wanted hands leadership to a voter that is, which removes it.
//   - Members that nobody wants are removed.
//
// A wanted voter that is dead is waited for: who does not want to wait wants another. A node that is a voter and is wanted as
// a learner is removed and added again.
//
// Who carries the steps out reads what is wanted before each of them, by a read that no earlier primary's could be, and
// reports each change of members before it decides on the next: then a node that is reported as a member of nothing has at most
// a place as a learner that the next step takes away.
package membership
