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
//   - An error of the log's files ends the group with a LogError. Nothing that
//     the group did not know to be durable has been answered by then.
//
// Entries reach Machine.Apply exactly once per life of the group, in order,
// from the index after the snapshot that was restored.
//
// DESIGN.md says why that holds. Package logstore keeps log, term and vote,
// package snapshots the snapshots.
//
// Locks: Group.proposals is taken before Group.state; no lock is held while a
// Machine or a done function is called.
package leader
