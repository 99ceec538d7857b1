package membership

import (
	"fmt"
	"slices"

	"github.com/nearsql/nearsql/leader"
)

// Kind is what a step does.
type Kind uint8

// The kinds. Those but None are the operations of leader.Group of that name.
const (
	None       Kind = iota // there is nothing to do, or nothing that can be done now
	AddLearner             // leader.Group.AddLearner
	Promote                // leader.Group.Promote
	Remove                 // leader.Group.Remove
	Transfer               // leader.Group.TransferLeadership
)

// String returns the kind in words.
func (k Kind) String() string {
	switch k {
	case None:
		return "none"
	case AddLearner:
		return "add learner"
	case Promote:
		return "promote"
	case Remove:
		return "remove"
	case Transfer:
		return "transfer"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Step is the next step of a group.
type Step struct {
	Kind Kind
	ID   leader.NodeID // whom it is done to; "" for None
	Why  string        // for people; of None "" when the group is as it should be, else what is waited for
}

// Facts are what Next decides on.
type Facts struct {
	Conf     leader.Configuration // of the primary
	Self     leader.NodeID        // the primary
	Voters   []leader.NodeID      // wanted
	Learners []leader.NodeID      // wanted; who is among Voters too votes
	// Alive says whether a member answers; see Contact. Self counts as alive.
	Alive func(leader.NodeID) bool
	// Refused says that a step with this node did not succeed a short while ago, so that all others come first; nil for none.
	Refused func(leader.NodeID) bool
}

// Next returns the next step to the wanted members.
func Next(f Facts) Step {
	if self, ok := f.Conf.Member(f.Self); !ok || !self.Voter {
		return Step{Why: fmt.Sprintf("%s is no voter of the group: its primary decides", f.Self)}
	}
	if len(f.Voters) == 0 {
		return Step{Why: "no voters are wanted: a group keeps what it has"}
	}
	s := f.next()
	if s.Kind == None && f.Refused != nil {
		f.Refused = nil // there is nothing else: what was refused is tried again
		if again := f.next(); again.Kind != None {
			return again
		}
	}
	return s
}

// next goes through the rules, in the order in which they come first.
func (f *Facts) next() Step {
	var waits string
	for _, rule := range []func(*Facts) Step{addVoters, removeDead, promote, addLearners, removeLearners, removeSurplus, transfer} {
		s := rule(f)
		if s.Kind != None {
			return s
		}
		if waits == "" {
			waits = s.Why
		}
	}
	return Step{Why: waits}
}

// addVoters adds the wanted voters that are no members, as learners.
func addVoters(f *Facts) Step {
	return f.pick(AddLearner, "it is to become a voter", f.missing(f.Voters))
}

// removeDead removes a voter that is not wanted and does not answer.
func removeDead(f *Facts) Step {
	return f.pick(Remove, "it is not wanted, and does not answer", f.members(func(m leader.Member) bool {
		return m.Voter && !f.wanted(m.ID) && !f.alive(m.ID)
	}))
}

// promote makes voters of the learners that are to be.
func promote(f *Facts) Step {
	waiting := f.members(func(m leader.Member) bool { return !m.Voter && f.wanted(m.ID) })
	ready := slices.DeleteFunc(slices.Clone(waiting), func(id leader.NodeID) bool { return !f.alive(id) })
	if len(ready) == 0 && len(waiting) > 0 {
		return Step{Why: fmt.Sprintf("%s is to become a voter, and does not answer", waiting[0])}
	}
	return f.pick(Promote, "it is wanted as a voter", ready)
}

// addLearners adds the wanted learners that are no members.
func addLearners(f *Facts) Step {
	return f.pick(AddLearner, "it is wanted as a learner", f.missing(f.Learners))
}

// removeLearners removes the learners that nobody wants.
func removeLearners(f *Facts) Step {
	return f.pick(Remove, "nobody wants it as a learner", f.members(func(m leader.Member) bool {
		return !m.Voter && !f.wanted(m.ID) && !slices.Contains(f.Learners, m.ID)
	}))
}

// removeSurplus removes a voter that answers and is not wanted, if the others can do without.
func removeSurplus(f *Facts) Step {
	surplus := f.members(func(m leader.Member) bool { return m.Voter && !f.wanted(m.ID) && m.ID != f.Self })
	if len(surplus) == 0 {
		return Step{}
	}
	var left, alive, wanted int // of the voters without one of them
	for _, m := range f.Conf.Members {
		if !m.Voter {
			continue
		}
		left++
		if f.alive(m.ID) {
			alive++
		}
		if f.wanted(m.ID) {
			wanted++
		}
	}
	left, alive = left-1, alive-1
	switch {
	case wanted == 0:
		return Step{Why: fmt.Sprintf("%s is not wanted, and stays until a wanted voter votes", surplus[0])}
	case left < len(f.Voters):
		return Step{Why: fmt.Sprintf("%s is not wanted, and stays until %d others vote", surplus[0], len(f.Voters))}
	case 2*alive <= left:
		return Step{Why: fmt.Sprintf("%s is not wanted, and stays since of the other %d voters only %d answer", surplus[0], left, alive)}
	}
	return f.pick(Remove, "it is not wanted", surplus)
}

// transfer hands leadership to a voter that is wanted, if this one is not.
func transfer(f *Facts) Step {
	if f.wanted(f.Self) {
		return Step{}
	}
	to := f.members(func(m leader.Member) bool { return m.Voter && f.wanted(m.ID) && f.alive(m.ID) })
	if len(to) == 0 {
		return Step{Why: fmt.Sprintf("%s, the primary, is not wanted, and stays until a wanted voter answers", f.Self)}
	}
	return f.pick(Transfer, fmt.Sprintf("%s, the primary, is not wanted as a voter", f.Self), to)
}

// pick returns a step with the first of ids that was not refused.
func (f *Facts) pick(k Kind, why string, ids []leader.NodeID) Step {
	if len(ids) == 0 {
		return Step{}
	}
	for _, id := range ids {
		if f.Refused == nil || !f.Refused(id) {
			return Step{Kind: k, ID: id, Why: why}
		}
	}
	return Step{Why: fmt.Sprintf("%s: the step with %s was refused a short while ago", k, ids[0])}
}

func (f *Facts) alive(id leader.NodeID) bool { return id == f.Self || f.Alive(id) }

// wanted says whether a node should vote.
func (f *Facts) wanted(id leader.NodeID) bool { return slices.Contains(f.Voters, id) }

// missing returns those of ids that are no members.
func (f *Facts) missing(ids []leader.NodeID) []leader.NodeID {
	var out []leader.NodeID
	for _, id := range ids {
		if _, ok := f.Conf.Member(id); !ok {
			out = append(out, id)
		}
	}
	return out
}

// members returns the ids of the members that is says yes to.
func (f *Facts) members(is func(leader.Member) bool) []leader.NodeID {
	var out []leader.NodeID
	for _, m := range f.Conf.Members {
		if is(m) {
			out = append(out, m.ID)
		}
	}
	return out
}
