package readpath

import (
	"fmt"
	"slices"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// Role is what this node is to a tenant.
type Role uint8

// Roles.
const (
	RoleNone    Role = iota // no copy, or one out of service, or one that the tenant has moved away from
	RoleReplica             // follows
	RoleVoter               // of the tenant's group, not its primary
	RolePrimary             // thinks that it is
)

// Copy is what this node knows of its copy of a tenant. Fresh is read first, the positions after it.
type Copy struct {
	Role  Role
	Fresh Freshness // of the state Logged
	// Askable: a question can be sent, and waited for.
	Askable bool

	Epoch    wire.Epoch
	Logged   wire.TXID     // the newest transaction that came, visible yet or not
	Visible  wire.TXID     // the newest that readers see
	Checksum wire.Checksum // of Visible
}

// Candidate is another node that holds the tenant.
type Candidate struct {
	Node  string
	Voter bool
}

// ForwardsMax is how often a request is passed on: once to a node that has a copy, once to the primary.
const ForwardsMax = 2

// Facts are what Decide looks at.
type Facts struct {
	Tenant wire.TenantID
	Self   string // this node
	Copy   Copy
	// Primary is the node that is thought to be the primary; "" if none is known.
	Primary string
	// Nodes are those that hold the tenant, nearest first. Those outside the tenant's jurisdiction must not be among them.
	Nodes []Candidate
	// Via are the nodes that the request came through.
	Via []string
	// Waited is how long the request has waited here already; WaitMax is how long it may.
	Waited, WaitMax time.Duration
}

// Action is what to do with a read.
type Action uint8

// Actions.
const (
	Serve   Action = 1 // here
	Wait    Action = 2 // here, and then decide again
	Forward Action = 3 // to another node
	Refuse  Action = 4
)

// String names the action.
func (a Action) String() string {
	switch a {
	case Serve:
		return "serve"
	case Wait:
		return "wait"
	case Forward:
		return "forward"
	case Refuse:
		return "refuse"
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// Decision is what becomes of a read.
type Decision struct {
	Action Action
	// Confirm, with Serve: a question sent from now on must be answered, and its index be applied, before the read begins.
	Confirm bool
	// TXID, with Serve and Wait: what must be visible before the read begins; or, with Wait, what is waited for.
	TXID wire.TXID
	// Probe, with Wait: a question is to be sent, and its answer is what is waited for, if it comes before TXID is visible.
	Probe bool
	// Limit, with Wait: for how long at most.
	Limit time.Duration
	// Known and Staleness, with Serve: how old the state may be at the read's start.
	Known     bool
	Staleness time.Duration
	Node      string      // with Forward
	Err       *wire.Error // with Refuse
}

// Decide says what becomes of a read that started at start, on this node's clocks. After a Wait it is called again, with new facts and
// the same start. It has no other input than its arguments and changes nothing.
func Decide(level Level, f *Facts, start Instant) Decision {
	if b := level.Bookmark; b != nil && !b.SameTenant(f.Tenant) {
		return refuse(wire.CodeBadBookmark, "the bookmark is of another tenant")
	}
	if level.Consistency == Strong {
		return decideStrong(level, f, start)
	}
	if f.Copy.Role == RoleNone {
		return elsewhere(level, f, "this node has no copy of the tenant")
	}
	fresh, age := f.Copy.Fresh.Known, time.Duration(0)
	if fresh {
		age = Elapsed(f.Copy.Fresh.AsOf, start)
	}
	need, lost, why := bookmarkNeeds(level.Bookmark, &f.Copy, fresh && age == 0)
	switch {
	case lost:
		return refuse(wire.CodeBookmarkLost, "%s", why)
	case why != "":
		return later(level, f, Decision{Action: Wait, TXID: need, Probe: true}, why)
	case level.Consistency == Any:
		return Decision{Action: Serve, TXID: need, Known: fresh, Staleness: age}
	case !fresh:
		return later(level, f, Decision{Action: Wait, Probe: true}, "how fresh the copy of this node is, is not known")
	case age > level.Staleness:
		return later(level, f, Decision{Action: Wait, Probe: true}, fmt.Sprintf("the copy of this node may be %v old", age.Round(time.Millisecond)))
	}
	return Decision{Action: Serve, TXID: max(need, f.Copy.Logged), Known: true, Staleness: age}
}

func decideStrong(level Level, f *Facts, start Instant) Decision {
	switch f.Copy.Role {
	case RolePrimary, RoleVoter:
		if b := level.Bookmark; b != nil {
			current := f.Copy.Fresh.Known && Elapsed(f.Copy.Fresh.AsOf, start) == 0
			switch need, lost, why := bookmarkNeeds(b, &f.Copy, current); {
			case lost:
				return refuse(wire.CodeBookmarkLost, "%s", why)
			case why != "" && f.Waited < f.WaitMax:
				return Decision{Action: Wait, TXID: need, Probe: true, Limit: f.WaitMax - f.Waited}
			case why != "":
				return refuse(wire.CodeNotPrimary, "%s, and no majority confirms that it is what there is", why)
			}
		}
		return Decision{Action: Serve, Confirm: true, TXID: f.Copy.Logged}
	}
	if f.Primary != "" && mayForward(f, f.Primary) {
		return Decision{Action: Forward, Node: f.Primary}
	}
	return refuse(wire.CodeNotPrimary, "the tenant's primary is not known here")
}

// bookmarkNeeds says what a bookmark asks of a copy: what must be visible; that it is of a history that was lost; or why the copy does not
// meet it now. current says that the copy contains all that was answered before the read began: so it contains the bookmark, if that
// is of its history.
func bookmarkNeeds(b *wire.BookmarkPos, c *Copy, current bool) (need wire.TXID, lost bool, why string) {
	switch {
	case b == nil:
		return 0, false, ""
	case b.Epoch < c.Epoch:
		return 0, true, fmt.Sprintf("the bookmark is of epoch %d, and the tenant's history went on from another state in epoch %d", b.Epoch, c.Epoch)
	case b.Epoch > c.Epoch && current:
		return 0, true, fmt.Sprintf("the bookmark is of epoch %d, and there is none after %d", b.Epoch, c.Epoch)
	case b.Epoch > c.Epoch:
		return 0, false, fmt.Sprintf("the copy of this node is of epoch %d, the bookmark of %d", c.Epoch, b.Epoch)
	case b.TXID > c.Logged && current:
		return 0, true, fmt.Sprintf("the bookmark is of transaction %d, and the tenant has had %d", uint64(b.TXID), uint64(c.Logged))
	case b.TXID == c.Visible && b.Checksum != c.Checksum:
		return 0, true, fmt.Sprintf("the bookmark is of another transaction %d", uint64(b.TXID))
	case b.TXID > c.Logged:
		return b.TXID, false, fmt.Sprintf("the copy of this node has not got transaction %d yet", uint64(b.TXID))
	}
	return b.TXID, false, ""
}

// later waits if that may help, else sends the read elsewhere.
func later(level Level, f *Facts, wait Decision, why string) Decision {
	if f.Copy.Askable && f.Waited < f.WaitMax {
		wait.Limit = f.WaitMax - f.Waited
		return wait
	}
	if level.OnStale == StaleFails {
		return refuse(wire.CodeStale, "%s, and no other node was to be asked", why)
	}
	return elsewhere(level, f, why)
}

// elsewhere forwards a weak read: a node without a copy to the nearest that has one, others to one that can confirm what it has.
func elsewhere(level Level, f *Facts, why string) Decision {
	first := len(f.Via) == 0
	if f.Copy.Role == RoleNone && first {
		for _, n := range f.Nodes {
			if mayForward(f, n.Node) {
				return Decision{Action: Forward, Node: n.Node}
			}
		}
	}
	if f.Primary != "" && mayForward(f, f.Primary) {
		return Decision{Action: Forward, Node: f.Primary}
	}
	if first {
		for _, n := range f.Nodes {
			if n.Voter && mayForward(f, n.Node) {
				return Decision{Action: Forward, Node: n.Node}
			}
		}
	}
	return refuse(wire.CodeStale, "%s, and no node is known that could serve the read", why)
}

func mayForward(f *Facts, node string) bool {
	return node != f.Self && len(f.Via) < ForwardsMax && !slices.Contains(f.Via, node)
}

func refuse(code wire.Code, format string, args ...any) Decision {
	return Decision{Action: Refuse, Err: wire.NewError(code, format, args...)}
}
