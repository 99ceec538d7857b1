package tenant

import (
	"fmt"
	"io"

	"github.com/nearsql/nearsql/wire"
)

// ID names one tenant for ever.
type ID = wire.TenantID

// NewID makes an id of 128 bits read from random, which must be unpredictable
// (crypto/rand.Reader) outside of tests.
func NewID(random io.Reader) (ID, error) {
	// Zero is no tenant's id. A source that gives it twice is no random source.
	for range 2 {
		var id ID
		if _, err := io.ReadFull(random, id[:]); err != nil {
			return ID{}, fmt.Errorf("read a random tenant id: %w", err)
		}
		if !id.IsZero() && id != SystemID() {
			return id, nil
		}
	}
	return ID{}, fmt.Errorf("make a tenant id: the random source gives reserved ids")
}

// SystemID is the id of the tenant `system` of every cluster, which holds the catalogue.
func SystemID() ID { return ID{len(ID{}) - 1: 1} }
