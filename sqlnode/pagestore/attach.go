package pagestore

import (
	"fmt"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// crrSchema is the name under which the file of the conflict-free tables is attached.
const crrSchema = "crr"

// AttachCRR attaches the file of the tenant's conflict-free tables, an ordinary SQLite file in
// WAL mode on SQLite's own VFS (fileVFSName), read-only, to a connection of this store. No transaction can write both: a writer of
// main can't write what is attached here, and OpenCRRWriter's can't write main. That, and not a look at
// the statement, keeps them apart.
func (c *Conn) AttachCRR(path string) error { return c.attachCRR(path, "ro") }

// OpenCRRWriter opens a connection that reads committed states of the store and writes the attached
// file alone: its BEGIN IMMEDIATE locks that file only. Its statement journals are temporary files, counted in temp, as long as
// its temp_store is FILE, as it is at first.
func (s *Store) OpenCRRWriter(path string, temp *TempSpace) (*Conn, error) {
	// The connection may write, or the attached file could not be; what is main's handle refuses to.
	c, err := s.openConn(nil, temp, sqlite.ReadWrite|sqlite.URI)
	if err != nil {
		return nil, err
	}
	if err := c.attachCRR(path, "rw"); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) attachCRR(path, mode string) error {
	uri := sqlite.FileURI(path, "vfs="+fileVFSName+"&mode="+mode)
	s, _, err := c.Prepare("ATTACH ? AS "+crrSchema, false)
	if err != nil {
		return fmt.Errorf("attach %s: %w", path, err)
	}
	defer s.Finalize()
	if err := s.Bind(1, wire.Text(uri)); err != nil {
		return fmt.Errorf("attach %s: %w", path, err)
	}
	if _, err := s.Step(); err != nil {
		return c.because(fmt.Errorf("attach %s: %w", path, err))
	}
	return nil
}
