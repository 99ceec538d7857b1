package wire

import (
	"encoding/hex"
	"fmt"
)

// TenantID names one tenant for ever: 128 random bits, never reused, unlike its name.
type TenantID [16]byte

// String returns 32 lower-case hexadecimal digits.
func (id TenantID) String() string { return hex.EncodeToString(id[:]) }

// IsZero says whether id is the zero id, which no tenant has.
func (id TenantID) IsZero() bool { return id == TenantID{} }

// ParseTenantID reads what String wrote.
func ParseTenantID(s string) (TenantID, error) {
	var id TenantID
	if len(s) != 2*len(id) {
		return id, fmt.Errorf("tenant id %q: want %d hexadecimal digits, got %d characters", s, 2*len(id), len(s))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return TenantID{}, fmt.Errorf("tenant id %q: %w", s, err)
	}
	return id, nil
}

// TXID counts the commits of a tenant: 0 is the tenant before its first, and
// each transaction adds one.
type TXID uint64

// String returns 16 hexadecimal digits, as in LTX file names.
func (t TXID) String() string { return fmt.Sprintf("%016x", uint64(t)) }

// Epoch rises when a tenant's history is not continued: at re-creation, and
// at recovery from a lost majority.
type Epoch uint32

// GroupID names a Raft group within a cluster. Group 1 is `system`.
type GroupID uint32

// Checksum is LTX's rolling checksum of all pages of a database: bit 63 set,
// XORed with the sum of every page (github.com/superfly/ltx). 0 means a database of no pages
// that never had one.
type Checksum uint64

// ChecksumFlag is set in every checksum, so that none is 0.
const ChecksumFlag Checksum = 1 << 63

// String returns 16 hexadecimal digits.
func (c Checksum) String() string { return fmt.Sprintf("%016x", uint64(c)) }

// Pos is how far a tenant's `main` schema has got.
type Pos struct {
	Tenant   TenantID
	Epoch    Epoch
	TXID     TXID
	Checksum Checksum
}

// String is for logs.
func (p Pos) String() string {
	return fmt.Sprintf("%s/%d/%d/%s", p.Tenant, p.Epoch, uint64(p.TXID), p.Checksum)
}
