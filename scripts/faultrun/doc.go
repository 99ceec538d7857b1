// Command faultrun runs a cluster of real processes under faults, and checks that what its clients were told is as if there had been one copy.
//
//	scripts/fault-run [--duration 10m] [--nodes 3] [--replicas 1] [--replace=false] [--seed N] [--quick] [--keep-going] [--patience N] [--faults LIST] [--planted FAULT]
//
// Clients on every node write and read strongly, over HTTP; a history of all they sent and heard is kept. Meanwhile nodes are killed
// (kill -9), all at once too, paused, restarted in order, cut off from each other both ways and one way, cut off and killed, and leadership is moved; a node without a vote has
// replicas of all tenants, and is treated alike. Every two minutes a voter is killed for good, another node takes its place, and one command removes the dead one. What comes when follows from the
// seed, which is printed; what the processes make of it does not.
//
// A key is a list that is appended to, or a register that is set, compared and set, and created; keys are used for two seconds each, so
// that histories are short. Checked is:
//
//   - The history of each key is linearizable (porcupine), answers that say no included: a comparison that fails, a row that is there already. A
//     write whose outcome is unknown may have happened at any time since, or not; one that was refused must not have happened.
//   - At the end every acknowledged append is in its list, once, and nothing that was refused.
//   - An error is one of a cluster that can't for the moment (retryable, UNKNOWN_OUTCOME, TIMEOUT): none says that there is no such tenant.
//   - A weak read with the bookmark of a write, on any node, sees the write.
//   - A weak read with a bound, on any node, sees all that was acknowledged longer ago than the bound when it was sent: a row of each tenant rises all the
//     time. Times are of this process's monotonic clock alone; the node may begin to read later than the read was sent, and never earlier, so that nothing
//     right is complained of.
//   - Counters in conflict-free tables are incremented at every node, also at those that are cut off. At the end all nodes, by their own copies, have the same in
//     these tables, and each counter is the number of its acknowledged increments, and at most as many more as there were of unknown outcome. What a
//     node had acknowledged that is gone for good may be lost, as its disk is.
//   - A dead voter is replaced within a minute and a half, whatever else happens.
//   - At the end all copies are equal, and sound by SQLite's integrity_check.
//   - No process ends by itself.
//
// With --planted a fault is planted in the clients, and the run succeeds if the checks find it: stale sends strong reads as weak ones of any age, bound sends
// weak reads without their bound, increment counts some increments twice.
package main
