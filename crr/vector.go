package crr

import (
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"maps"
	"slices"
	"strings"
)

// Vector says for each site up to which reading all of its transactions are in
// a state. A site without an entry has none.
type Vector map[SiteID]HLC

// Has says whether the transaction s is in the state.
func (v Vector) Has(s Stamp) bool { return v[s.Site] >= s.HLC }

// Covers says whether all that o has is in v.
func (v Vector) Covers(o Vector) bool {
	for s, h := range o {
		if v[s] < h {
			return false
		}
	}
	return true
}

// Equal says whether both have the same.
func (v Vector) Equal(o Vector) bool { return v.Covers(o) && o.Covers(v) }

// Join adds what o has to v.
func (v Vector) Join(o Vector) {
	for s, h := range o {
		if h > v[s] {
			v[s] = h
		}
	}
}

// Clone returns a copy, never nil.
func (v Vector) Clone() Vector {
	o := make(Vector, len(v))
	maps.Copy(o, v)
	return o
}

// sites returns the sites with an entry, ascending.
func (v Vector) sites() []SiteID {
	out := make([]SiteID, 0, len(v))
	for s, h := range v {
		if h != 0 {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// String prints the vector, sites ascending.
func (v Vector) String() string {
	var b strings.Builder
	for i, s := range v.sites() {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%d:%s", s, v[s])
	}
	return b.String()
}

// Append writes the vector's canonical form (FORMAT.md) behind b.
func (v Vector) Append(b []byte) []byte {
	ss := v.sites()
	b = binary.AppendUvarint(b, uint64(len(ss)))
	for _, s := range ss {
		b = binary.AppendUvarint(b, uint64(s))
		b = binary.BigEndian.AppendUint64(b, uint64(v[s]))
	}
	return b
}

// ParseVector reads what Append wrote, to its end.
func ParseVector(b []byte) (Vector, error) {
	d := &decoder{b: b}
	v := d.vector()
	if err := d.end("vector"); err != nil {
		return nil, err
	}
	return v, nil
}

// hashTable is constant; ECMA is a parameter of the format of heads.
var hashTable = crc64.MakeTable(crc64.ECMA)

// Hash is a short form of the vector for heads: equal vectors have equal hashes, others almost
// surely not. 0 is the empty vector's alone.
func (v Vector) Hash() uint64 {
	if len(v.sites()) == 0 {
		return 0
	}
	return max(crc64.Checksum(v.Append(nil), hashTable), 1)
}
