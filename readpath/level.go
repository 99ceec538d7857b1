package readpath

import (
	"fmt"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// Consistency is what a read asks of the state that it sees.
type Consistency uint8

const (
	// Strong reads see all that was answered before they began.
	Strong Consistency = 1
	// Bounded reads see all that was answered more than Level.Staleness before they began.
	Bounded Consistency = 2
	// Any reads see some committed state.
	Any Consistency = 3
)

// String names the level as the API does.
func (c Consistency) String() string {
	switch c {
	case Strong:
		return "strong"
	case Bounded:
		return "weak"
	case Any:
		return "any"
	}
	return fmt.Sprintf("consistency(%d)", uint8(c))
}

// OnStale is what becomes of a read that this node's copy is too old for: of a weak one's bound or bookmark, or of a strong one.
type OnStale uint8

const (
	// StaleForwards sends it to a node that can.
	StaleForwards OnStale = iota
	// StaleFails refuses it with STALE.
	StaleFails
)

// Level is what a read asks for.
type Level struct {
	Consistency Consistency
	Staleness   time.Duration     // of Bounded
	Bookmark    *wire.BookmarkPos // the state must contain it; nil for none. Strong reads check that it is of their history
	OnStale     OnStale
}
