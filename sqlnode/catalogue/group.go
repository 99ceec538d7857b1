package catalogue

import (
	"fmt"
	"slices"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// The groups that each cluster has from its beginning. Others have numbers from 3 up.
const (
	SystemGroup  wire.GroupID = 1 // holds the catalogue
	DefaultGroup wire.GroupID = 2

	SystemGroupName  = "system"
	DefaultGroupName = "default"
)

// Group is the row of a group. What it refers to must not be changed.
type Group struct {
	ID     wire.GroupID
	Name   string
	Voters []string // declared: who should vote, by id
	Policy
	Founded bool    // it has a log; until then Voters never changes
	Members Members // as a primary of it last reported
	Created time.Time
	Changed time.Time // when Voters or Policy last did
	Version uint64    // of its newest change
}

// Policy is by what rules [Declare] chooses the voters of a group.
type Policy struct {
	Pinned bool   // Voters is as people set it: Declare leaves it alone
	Target int    // of voters: 1, 3 or 5
	Region string // that voters must be in; "" for any
}

// Validate names the field that is wrong.
func (p Policy) Validate() error {
	if p.Target != 1 && p.Target != 3 && p.Target != 5 {
		return fmt.Errorf("target of %d voters: want 1, 3 or 5", p.Target)
	}
	if p.Region != "" {
		if err := tenant.CheckLabel(p.Region); err != nil {
			return fmt.Errorf("region: %w", err)
		}
	}
	return nil
}

// Members is the Raft configuration of a group, as its primary saw it.
type Members struct {
	Voters   []string // by id
	Learners []string // by id
	Primary  string   // who reported it
	Term     uint64   // of Primary; 0 when nothing was reported yet
	Index    uint64   // of the configuration's entry
}

// has says whether a node is a member.
func (m *Members) has(id string) bool {
	return slices.Contains(m.Voters, id) || slices.Contains(m.Learners, id)
}

// maxVoters bounds a declared list. Beyond 5 is for a time between two sets only.
const maxVoters = 9

// checkVoters returns a copy in order, or says what is wrong with the list.
func checkVoters(voters []string) ([]string, error) {
	if len(voters) == 0 || len(voters) > maxVoters {
		return nil, fmt.Errorf("%d voters: want 1 to %d", len(voters), maxVoters)
	}
	sorted := slices.Sorted(slices.Values(voters))
	for i, id := range sorted {
		if err := tenant.CheckLabel(id); err != nil {
			return nil, fmt.Errorf("voter: %w", err)
		}
		if i > 0 && sorted[i-1] == id {
			return nil, fmt.Errorf("voter %s is named twice", id)
		}
	}
	return sorted, nil
}
