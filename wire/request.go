package wire

import "time"

// Consistency is the level that a request asks for.
type Consistency uint8

// Levels. The zero value leaves the choice to the server: writes are strong,
// reads are weak with the tenant's default bound.
const (
	ConsistencyDefault Consistency = iota
	Strong
	Weak
	// Local is how conflict-free tables were served: what this node has of them, with all that it had heard of the other sites. It is
	// for answers; nobody asks for it.
	Local
)

// AnyStaleness as Request.MaxStaleness accepts a copy of any age.
const AnyStaleness time.Duration = -1

// Request is one request to one tenant: one statement, or several that make
// one atomic batch.
type Request struct {
	Statements  []Statement
	Batch       bool // the client asked for a batch: answers are a list even for one statement
	ReadOnly    bool // refuse statements that write (GET)
	Stream      bool // rows leave as they come: limits on an answer that is held in memory do not count
	Consistency Consistency
	// MaxStaleness bounds the age of what a weak read sees, at its start.
	// 0 means the tenant's default, AnyStaleness no bound.
	MaxStaleness time.Duration
	Bookmark     string        // the read sees at least what this bookmark saw
	FailOnStale  bool          // on_stale=fail: refuse with STALE rather than forward
	Timeout      time.Duration // of the whole request; 0 means the tenant's limit
	// IdempotencyKey makes a write happen at most once for 24 hours; "" means none.
	IdempotencyKey string
	// Subject names the credential that asks, for idempotency keys and logs.
	Subject string
}

// Meta says where and how a request was served.
type Meta struct {
	Consistency Consistency
	Staleness   time.Duration // upper bound of the age of what was read, at the start
	Node        string
	PoP         string
	Role        string // primary, voter, replica
	Duration    time.Duration
	Bookmark    string // a later read with it sees at least what this request saw
	// Tables: conflict-free tables were read. TablesStaleness is the upper bound of the age of what was seen of them: all that other
	// sites had written by then was seen; AnyStaleness where that is not known.
	Tables          bool
	TablesStaleness time.Duration
	Replayed        bool // the stored outcome of an earlier request with the same Idempotency-Key
}
