package tenanttest

import (
	"testing"

	"github.com/nearsql/nearsql/tenant"
)

func TestMemory(t *testing.T) {
	Catalogue(t, func(t *testing.T) tenant.Catalogue { return NewMemory() })
}
