package sqlnode

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/wire"
)

// RootKeyFile is the name of the file, in the data directory, with the key that may do everything.
const RootKeyFile = "root.key"

// auth is httpapi.Auth with the root key alone.
type auth struct {
	open bool // nobody is asked
	text string
	key  [sha256.Size]byte // its digest
}

// openAuth reads the root key, or makes it at the first start.
func openAuth(fsys disk.FS, dir string, open bool) (*auth, error) {
	path := filepath.Join(dir, RootKeyFile)
	b, err := disk.ReadFile(fsys, "rootkey.read", path, 1<<10)
	if errors.Is(err, fs.ErrNotExist) {
		var r [32]byte
		if _, err := rand.Read(r[:]); err != nil {
			return nil, err
		}
		b = []byte("nsroot_" + base64.RawURLEncoding.EncodeToString(r[:]) + "\n")
		err = disk.WriteFileAtomic(fsys, "rootkey.write", path, b, 0o600)
	}
	if err != nil {
		return nil, err
	}
	key := strings.TrimSpace(string(b))
	if len(key) < 20 {
		return nil, fmt.Errorf("%s: the root key is too short; remove the file to have another made", path)
	}
	return &auth{open: open, text: key, key: sha256.Sum256([]byte(key))}, nil
}

// Check implements httpapi.Auth.
func (a *auth) Check(_ context.Context, bearer string) (httpapi.Identity, error) {
	if a.open {
		return httpapi.Identity{Subject: "anyone", Admin: true}, nil
	}
	if bearer == "" {
		return httpapi.Identity{}, wire.NewError(wire.CodeUnauthenticated, "a bearer token is needed: Authorization: Bearer …; on this machine it is in %s", RootKeyFile)
	}
	got := sha256.Sum256([]byte(bearer))
	if subtle.ConstantTimeCompare(got[:], a.key[:]) != 1 {
		return httpapi.Identity{}, wire.NewError(wire.CodeUnauthenticated, "the bearer token is not valid")
	}
	return httpapi.Identity{Subject: "root", Admin: true}, nil
}
