// Package recovery makes the copy of one stopped node the whole of a group whose other voters are lost for good.
//
// What holds:
//
//   - Nothing is changed before the directory of the group's log was copied, durably, with a note of where each tenant stood.
//   - The node is the only voter of the group then. It starts with all entries that its copy had, whether a majority ever
//     acknowledged them or not; what a majority acknowledged and its copy lacks is lost.
//   - The epoch of each of the group's tenants rises before anything is answered: it is in the log, behind those entries and
//     before the configuration that lets the node lead. So a bookmark of what is lost is told so.
//   - When the system group is recovered, the cluster gets another id before anything else changes: the nodes that were left behind
//     and this one refuse each other's connections from then on, if those nodes start again against all advice.
//   - After a crash at any point, the same call again goes on; until it has succeeded the node must not be started.
//
// What can't hold: two of three voters that were left behind are a majority of the old group. If both start again, they serve a
// history of their own to whoever reaches them. So they must be wiped, and join anew under other ids.
//
// A node that is well but not the one that a group was recovered from has a copy of the lost history: Discard sets it aside, so
// that it comes anew.
//
// The data directory is locked from Open to Close.
package recovery
