// Package disktest tests what is written to survive crashes.
//
// MemFS is a disk in memory that forgets, at Crash, what package disk does not
// promise: any part of the writes that no Sync followed, and any of the names
// that no SyncDir followed. Faults wraps a disk.FS and fails, tears, delays or
// crashes chosen operations, by number or by name.
//
// A crash test runs its subject on NewFaults(mem) once to learn how many
// operations that takes, then once more for each of them with CrashNth, and
// goes on with mem.Crash(rng) after each.
package disktest
