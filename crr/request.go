package crr

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Request asks a site for what the asker lacks.
type Request struct {
	Tenant string
	Site   SiteID // of the asker; 0 when it has no number yet
	File   FileID // of the asker
	Schema uint64 // version that the asker is at
	Vector Vector // what the asker has
	// Cursor is the Header.Cursor of the newest answer from the file Of that the asker has taken, so that this one
	// need not look at older transactions; 0 is always right.
	Of     FileID
	Cursor int64
}

const (
	requestMagic   = "nq"
	requestVersion = 1
)

// Append writes the request's form (FORMAT.md) behind b.
func (q *Request) Append(b []byte) []byte {
	b = append(b, requestMagic...)
	b = append(b, requestVersion)
	b = binary.AppendUvarint(b, uint64(len(q.Tenant)))
	b = append(b, q.Tenant...)
	b = binary.AppendUvarint(b, uint64(q.Site))
	b = append(b, q.File[:]...)
	b = binary.AppendUvarint(b, q.Schema)
	b = q.Vector.Append(b)
	b = append(b, q.Of[:]...)
	return binary.AppendUvarint(b, uint64(q.Cursor))
}

// ParseRequest reads what Append wrote, to its end.
func ParseRequest(b []byte) (*Request, error) {
	if len(b) < 3 || string(b[:2]) != requestMagic {
		return nil, fmt.Errorf("%w: not a request", ErrCorrupt)
	}
	if b[2] != requestVersion {
		return nil, &VersionError{"request", b[2]}
	}
	d := &decoder{b: b[3:]}
	q := &Request{}
	q.Tenant = string(d.bytes(int(d.uvarint(maxTenant))))
	q.Site = SiteID(d.uvarint(math.MaxUint32))
	copy(q.File[:], d.bytes(len(q.File)))
	q.Schema = d.uvarint(math.MaxInt64)
	q.Vector = d.vector()
	copy(q.Of[:], d.bytes(len(q.Of)))
	q.Cursor = int64(d.uvarint(math.MaxInt64))
	return q, d.end("request")
}

// Request returns what to ask a peer with, whose file is of (as its Head says).
func (s *Site) Request(peer SiteID, of FileID) *Request {
	q := &Request{Tenant: s.me.Tenant, Site: s.me.Site, File: s.me.File, Schema: s.state.Version, Vector: s.vv.Clone(), Of: of}
	if p := s.peers[peer]; p != nil && p.file == of {
		q.Cursor = p.cursor
	}
	return q
}
