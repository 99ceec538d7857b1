// Command faultrun runs a cluster of real processes under faults, and checks that what its clients were told is as if there had been one copy.
//
//	scripts/fault-run [--duration 10m] [--nodes 3] [--seed N] [--quick] [--keep-going] [--faults LIST] [--planted stale]
//
// Clients on every node write and read strongly, over HTTP; a history of all they sent and heard is kept. Meanwhile nodes are killed
// (kill -9), all at once too, paused, restarted in order, cut off from each other both ways and one way, and leadership is moved. What comes when follows from the
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
//   - At the end all copies are equal, and sound by SQLite's integrity_check.
//   - No process ends by itself.
//
// With --planted stale strong reads are sent as weak ones of any age: then the run succeeds if the check finds one that is stale.
package main
