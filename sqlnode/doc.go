// Package sqlnode is one node: it joins the parts in one place, and runs them.
//
//	HTTP (httpapi) ──> engine ──> pagestore <── leader (Raft, one group each)
//	                                  │             │
//	                              bases, segments   log
//	                                  └── disk ─────┘
//
// New checks the configuration and opens what is on disk; Run serves until its context
// ends, and returns after its last goroutine. Nothing here outlives a Node, and two
// nodes in one process share nothing but SQLite's page cache.
package sqlnode
