package copies

// Fault is why a copy wants to be replaced.
type Fault int

// Faults.
const (
	Hollow   Fault = iota // it never had its pages
	Failed                // it is out of service
	Diverged              // it is out of service, as what it made of an entry is not what the log says
	Rotten                // it is in service, and a page of it is corrupt
)

// Facts are what Decide goes by.
type Facts struct {
	Fault   Fault
	Others  int  // other members of the group
	Primary bool // this node leads the group
	Heirs   int  // other voters, of whom one could lead
	Sound   int  // of the others, those that were seen to have a sound copy; for Rotten
	Voters  int  // all voters of the group, this node included if it votes; for Diverged
	Agree   int  // of the other voters, those that were seen in service past where this copy diverged; for Diverged
}

// Action is what is to be done about a copy.
type Action int

// Actions.
const (
	Leave   Action = iota // nothing, for now
	HandOn                // hand on leadership, then ask again
	TakeOut               // take it out of service, and fetch another
	Fetch                 // fetch another
	Hold                  // nothing, as a majority may have come out like this copy: someone has to look
)

// String is for logs.
func (a Action) String() string {
	switch a {
	case Leave:
		return "leave"
	case HandOn:
		return "hand on"
	case TakeOut:
		return "take out"
	case Fetch:
		return "fetch"
	case Hold:
		return "hold"
	}
	return "unknown"
}

// Decide is the policy.
//
// A corrupt page is no reason to take the rest of a copy from its readers, unless another copy can take its place; nor to
// take a tenant from its writers, unless another node leads. A copy that is out of service serves nobody, so there is nothing to lose; but one that
// diverged may be right, and the log wrong, if the primary that wrote the entry was: then a majority came out alike.
func Decide(f Facts) Action {
	switch {
	case f.Others == 0:
		return Leave
	case f.Fault == Diverged && 2*f.Agree <= f.Voters:
		return Hold
	case f.Fault != Rotten:
		return Fetch
	case f.Sound == 0, f.Primary && f.Heirs == 0:
		return Leave
	case f.Primary:
		return HandOn
	}
	return TakeOut
}
