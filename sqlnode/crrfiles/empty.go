package crrfiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// Empty writes a file of the tenant's conflict-free tables without rows or identity to path, for Replace. What is there goes.
func (f *File) Empty(ctx context.Context, path string) error {
	for _, name := range []string{path, path + "-wal", path + "-shm", path + "-journal"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return f.Write(ctx, func(w *Writer) error {
		changes, err := Changes(w.Conn.Conn, 0)
		if err != nil {
			return err
		}
		c, err := sqlite.Open(":memory:", "", sqlite.ReadWrite|sqlite.Create|sqlite.URI)
		if err != nil {
			return err
		}
		err = func() error {
			if err := configure(c); err != nil {
				return err
			}
			if err := c.Exec("ATTACH '" + strings.ReplaceAll(uriOf(path)+"&mode=rwc", "'", "''") + "' AS crr"); err != nil {
				return err
			}
			s, err := crr.Open(Adapt(c), crr.Config{Tenant: f.id.String()})
			if err != nil {
				return err
			}
			defer s.Close()
			for _, ch := range changes {
				if err := s.ApplySchema(ch); err != nil {
					return err
				}
			}
			return nil
		}()
		if err = errors.Join(err, c.Close()); err != nil {
			return fmt.Errorf("make an empty file of conflict-free tables: %w", err)
		}
		return nil
	})
}
