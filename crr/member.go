package crr

import (
	"fmt"

	"github.com/nearsql/nearsql/wire"
)

// MemberState is how far a site is in its life (the strong schema's __crr_site).
type MemberState uint8

// The states of a member.
const (
	Active  MemberState = iota + 1
	Leaving             // writes no more; its changes still spread
	Retired             // whatever is above its final reading is refused for ever
)

// Member is one site of the tenant, as the strong schema has it.
type Member struct {
	Site  SiteID
	File  FileID
	State MemberState
	Final HLC // of Retired: its last transaction that counts
}

// SetMembers takes the sites that the strong schema names, all that ever were. From
// then on others are refused.
func (s *Site) SetMembers(ms []Member) {
	s.members = make(map[SiteID]Member, len(ms))
	for _, m := range ms {
		s.members[m.Site] = m
	}
	for site := range s.peers {
		if m, ok := s.members[site]; !ok || m.State == Retired {
			delete(s.peers, site) // its row in the file goes when the next is written
		}
	}
}

// MemberError is a message of, or about, a site that is none of the tenant's, or
// about transactions that do not count. Unknown sites may be known soon: the log that names them may be late.
type MemberError struct {
	Site   SiteID
	Reason string
}

func (e *MemberError) Error() string { return fmt.Sprintf("crr: site %d: %s", e.Site, e.Reason) }

// admit says why a sender is not heard.
func (s *Site) admit(site SiteID, file FileID) error {
	if site == s.me.Site {
		return &MemberError{site, "that is this site's own number"}
	}
	if s.members == nil {
		return nil
	}
	switch m, ok := s.members[site]; {
	case !ok:
		return &MemberError{site, "not a site of this tenant, as far as is known here"}
	case m.State == Retired:
		return &MemberError{site, "retired"}
	case m.File != file:
		return &MemberError{site, "its number is another file's"}
	}
	return nil
}

// counts says why a vector's transactions may not be merged.
func (s *Site) counts(v Vector) error {
	if s.members == nil {
		return nil
	}
	for site, h := range v {
		switch m, ok := s.members[site]; {
		case !ok:
			return &MemberError{site, "not a site of this tenant, as far as is known here"}
		case m.State == Retired && h > m.Final && s.vv[site] < h:
			return &MemberError{site, fmt.Sprintf("retired at %s; transactions up to %s are refused", m.Final, h)}
		}
	}
	return nil
}

// peer is what the site knows of another one.
type peer struct {
	file   FileID
	cursor int64 // of the newest answer from the peer's file that was taken
	// acked is what the peer surely has, when also all that it had written by then is here.
	acked Vector
	// claims are vectors that the peer sent, of which its own transactions are not all here yet: the oldest and the newest.
	claims [2]Vector
}

func (s *Site) peer(site SiteID, file FileID) *peer {
	p := s.peers[site]
	if p == nil || p.file != file {
		p = &peer{file: file, acked: Vector{}}
		s.peers[site] = p
	}
	return p
}

// claim notes a vector that the peer sent.
func (p *peer) claim(site SiteID, v, have Vector) {
	if p.claims[0] == nil {
		p.claims[0] = v
	} else {
		p.claims[1] = v
	}
	p.settle(site, have)
}

// settle takes the claims whose own transactions have come.
func (p *peer) settle(site SiteID, have Vector) {
	for i := range p.claims {
		if c := p.claims[i]; c != nil && have[site] >= c[site] {
			p.acked.Join(c)
			p.claims[i] = nil
		}
	}
	if p.claims[0] == nil {
		p.claims[0], p.claims[1] = p.claims[1], nil
	}
}

// readPeers takes what the file knows of other sites.
func (s *Site) readPeers() error {
	return query(s.conn, "SELECT site, file, vv, cursor FROM crr.__crr_peer", func(st Stmt) error {
		p := &peer{cursor: st.Column(3).Int()}
		if copy(p.file[:], st.ColumnBytes(1)) != len(p.file) {
			return fmt.Errorf("%w: file id of a peer", ErrCorrupt)
		}
		var err error
		p.acked, err = ParseVector(st.ColumnBytes(2))
		s.peers[SiteID(st.Column(0).Int())] = p
		return err
	})
}

func (s *Site) storePeer(site SiteID, p *peer) error {
	return s.exec("INSERT OR REPLACE INTO crr.__crr_peer VALUES(?,?,?,?)", wire.Integer(int64(site)), wire.Blob(p.file[:]), wire.Blob(p.acked.Append(nil)), wire.Integer(p.cursor))
}

// Heard takes the vector that a peer sent with a request or a head. It fails with a *RewoundError when the peer has more of
// this site than the site itself: see RewoundError.
func (s *Site) Heard(site SiteID, file FileID, v Vector) error {
	if err := s.admit(site, file); err != nil {
		return err
	}
	if err := s.rewound(v); err != nil {
		return err
	}
	s.peer(site, file).claim(site, v.Clone(), s.vv)
	return nil
}
