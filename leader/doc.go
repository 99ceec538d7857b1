// Package leader runs Raft groups: who is primary, what is in the log, and
// what a read must wait for. It knows no SQL; what the log means is a Machine's.
//
// A Group promises:
//
//   - A proposal answered without an error is in the log of a majority, durably,
//     and was applied here. Proposals are applied in the order of the calls of
//     Propose, and answered in that order.
//   - A proposal answered with NotPrimaryError or OverloadedError is not in the
//     log and never will be. With UnknownOutcomeError it may be.
//   - A state with index i or later, for an i that ReadIndex returned, contains
//     every proposal that was answered before ReadIndex was called, anywhere.
//   - Leadership says Primary only after everything of earlier terms has been
//     applied here, and for one term: a primary of another term is another one.
//   - ReadIndexAt is the same on any member, by asking the primary.
//   - Members change one at a time, each change decided on a configuration that is
//     still the newest; no voter is added or removed while a Machine that the
//     rest would rely on lacks what a snapshot gave it.
//   - An error of the log's files ends the group with a LogError. Nothing that
//     the group did not know to be durable has been answered by then, nor is
//     anything sent to other nodes from then on.
//
// Entries reach Machine.Apply exactly once per life of the group, in order,
// from the index after the snapshot that was restored.
//
// Run may end with ErrRunAgain; a new Group then goes on in the same directory.
//
// When the other voters are lost for good, Examine and Recover make one node's copy the
// whole group, without what that copy lacks.
//
// DESIGN.md says why that holds, FORMAT.md what nodes ask each other. Package logstore keeps log, term and vote,
// package snapshots the snapshots; package leadertest runs groups in tests.
//
// Locks: Group.changing before Group.proposals before Group.state; peers.mu and
// peer.mu are never held together. No lock but changing is held while a Machine, a
// done function or MayChange is called.
package leader
