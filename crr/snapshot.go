package crr

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/nearsql/nearsql/wire"
)

// Snapshot writes a copy of one committed state of the file, without its identity, to a new file: for a site
// that is far behind, or for a backup. uri is what ATTACH takes; where c opens files on another VFS by default it has to
// name SQLite's own (file:…?vfs=unix). The copy opens under a new id and without a number.
//
// c is a connection with the file attached, used by nobody else meanwhile, and may write; the site goes on writing with its own.
func Snapshot(c Conn, uri string) (err error) {
	lit := "'" + strings.ReplaceAll(uri, "'", "''") + "'"
	if err := c.Exec("VACUUM crr INTO " + lit); err != nil {
		return fmt.Errorf("snapshot of conflict-free tables: %w", err)
	}
	if err := c.Exec("ATTACH " + lit + " AS crr_copy"); err != nil {
		return fmt.Errorf("snapshot of conflict-free tables: %w", err)
	}
	defer func() { err = errors.Join(err, c.Exec("DETACH crr_copy")) }()
	file, err := newFileID(rand.Reader)
	if err != nil {
		return err
	}
	if err := c.Exec("BEGIN"); err != nil {
		return err
	}
	err = c.Exec(`INSERT INTO crr_copy.__crr_vv SELECT site, hlc FROM crr_copy.__crr_self WHERE site IS NOT NULL AND hlc>0
		ON CONFLICT(site) DO UPDATE SET hlc=max(hlc, excluded.hlc);
		DELETE FROM crr_copy.__crr_peer; DELETE FROM crr_copy.__crr_inbox`)
	if err == nil {
		err = query(c, "UPDATE crr_copy.__crr_self SET site=NULL, hlc=0, file=?", nil, wire.Blob(file[:]))
	}
	if err == nil {
		err = c.Exec("COMMIT")
	}
	if err != nil && !c.Autocommit() {
		err = errors.Join(err, c.Exec("ROLLBACK"))
	}
	if err != nil {
		return fmt.Errorf("strip the snapshot of its identity: %w", err)
	}
	return nil
}
