package pagestore

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/wire"
)

// A copy that fails is out of service at once, in memory. A restart may heal
// it, as the log is read again, until something durable passes it by: a checkpoint
// that says where the tenant stands without having its pages, or an absorbed unit whose
// pages did not get into its base. Before that a file in `failed`, named by the
// tenant's id, with the reason in it, makes the failure durable. The other tenants of the
// group go on.

func (f *files) failedPath(id wire.TenantID) string {
	return filepath.Join(f.cfg.Dir, "failed", id.String())
}

// divergedMark begins the reason of a copy that is not what the log says.
const divergedMark = "diverged: "

// maxReason bounds the text of a reason, in bytes.
const maxReason = 4 << 10

func (f *files) loadFailed() error {
	f.mu.failed = map[wire.TenantID]string{}
	names, err := f.cfg.FS.ReadDir("failed.list", filepath.Join(f.cfg.Dir, "failed"))
	if err != nil {
		return fmt.Errorf("list failed copies: %w", err)
	}
	for _, n := range names {
		id, err := wire.ParseTenantID(n.Name())
		if err != nil {
			continue // one that was not finished
		}
		b, err := disk.ReadFile(f.cfg.FS, "failed.read", f.failedPath(id), maxReason)
		if err != nil {
			return fmt.Errorf("failed copy of tenant %s: %w", id, err)
		}
		f.mu.failed[id] = string(b)
	}
	return nil
}

// markFailed makes durable that the copy of a tenant is of no use, unless it was replaced meanwhile.
func (f *files) markFailed(t *Tenant) error {
	f.marks.Lock()
	defer f.marks.Unlock()
	id, cause := t.id, t.broken()
	if cause == nil || errors.Is(cause, ErrHollow) {
		return nil
	}
	f.mu.Lock()
	_, known := f.mu.failed[id]
	f.mu.Unlock()
	if known {
		return nil
	}
	reason := cause.Error()
	if diverged(cause) {
		reason = divergedMark + reason
	}
	reason = reason[:min(len(reason), maxReason)]
	if err := disk.WriteFileAtomic(f.cfg.FS, "failed.write", f.failedPath(id), []byte(reason), 0o600); err != nil {
		return err
	}
	f.mu.Lock()
	f.mu.failed[id] = reason
	f.mu.Unlock()
	return nil
}

// failedBefore returns why the copy was given up in an earlier run, or nil.
func (f *files) failedBefore(id wire.TenantID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if reason, ok := f.mu.failed[id]; ok {
		file := f.basePathLocked(id)
		if strings.HasPrefix(reason, divergedMark) {
			file = storeFile
		}
		return &CorruptError{Tenant: id, File: file, What: "it was given up earlier: " + reason}
	}
	return nil
}

// unmarkFailed takes the mark away: the copy was replaced. The caller has f.marks.
func (f *files) unmarkFailed(id wire.TenantID) error {
	f.mu.Lock()
	_, known := f.mu.failed[id]
	f.mu.Unlock()
	if !known {
		return nil
	}
	if err := f.cfg.FS.Remove("failed.remove", f.failedPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f.mu.Lock()
	delete(f.mu.failed, id)
	f.mu.Unlock()
	return f.cfg.FS.SyncDir("failed.syncdir", filepath.Dir(f.failedPath(id)))
}
