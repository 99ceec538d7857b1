package engine

import "github.com/nearsql/nearsql/wire"

// NeedsPrimary says whether a request must run on the primary of its tenant's group: it has a statement that
// writes, or that sets a switch for one that does. A request that it takes for a read can't write either: readers
// have no means to.
func NeedsPrimary(req *wire.Request) bool {
	for i := range req.Statements {
		switch classify(req.Statements[i].SQL) {
		case classEmpty, classRead, classCheck, classRefused:
		default:
			return true
		}
	}
	return false
}
