package pagestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/wire/txn"
)

// ErrStagingOpen puts a snapshot off: the parts of a large transaction are still coming, and
// they are kept by the log alone.
var ErrStagingOpen = errors.New("a large transaction is still coming in parts")

// stagingMemory is how much of an operation stays in memory, in bytes.
const stagingMemory = 256 << 10

// staging collects the body of a transaction that comes in parts. The log keeps the
// parts until the transaction is whole, so nothing here is synced.
type staging struct {
	g     *Group
	next  uint32
	size  uint64
	crc   uint32
	mem   []byte
	path  string
	f     disk.File
	err   error // what went wrong with the file; the transaction can't be built then
	ended bool
}

// stageLocked adds a part. A part 0 begins the operation anew: an earlier leader
// may have left the beginning of one with the same number.
func (t *Tenant) stageLocked(h *txn.Header, payload []byte) error {
	s := t.mu.staging[h.Operation]
	if h.Part == 0 {
		t.takeStagingLocked(h.Operation).drop()
		s = &staging{g: t.g, path: filepath.Join(t.g.cfg.Dir, "staging", fmt.Sprintf("%s-%016x", t.id, h.Operation))}
		t.mu.staging[h.Operation] = s
		t.g.countStaging(1)
	}
	if s == nil || s.next != h.Part {
		return fmt.Errorf("tenant %s: part %d of operation %x comes out of order", t.id, h.Part, h.Operation)
	}
	s.add(payload)
	return nil
}

// takeStagingLocked ends the operation and returns what came of it, or nil.
func (t *Tenant) takeStagingLocked(op uint64) *staging {
	s := t.mu.staging[op]
	if s != nil {
		delete(t.mu.staging, op)
		t.g.countStaging(-1)
	}
	return s
}

func (g *Group) countStaging(n int) {
	g.mu.Lock()
	g.mu.staging += n
	g.mu.Unlock()
}

// dropStaging ends all operations: the leader that sent their parts is gone, and a new
// one begins from part 0.
func (g *Group) dropStaging() {
	for _, t := range g.Tenants() {
		t.mu.Lock()
		for op := range t.mu.staging {
			t.takeStagingLocked(op).drop()
		}
		t.mu.Unlock()
	}
}

func (s *staging) add(payload []byte) {
	s.next++
	s.crc = txn.UpdateCRC(s.crc, payload)
	at := int64(s.size)
	s.size += uint64(len(payload))
	if s.err != nil {
		return
	}
	if s.f == nil {
		s.mem = append(s.mem, payload...)
		if len(s.mem) <= stagingMemory {
			return
		}
		f, err := s.g.cfg.FS.OpenFile("staging.create", s.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			s.err = fmt.Errorf("stage a large transaction: %w", err)
			return
		}
		s.f = f
		payload, at = s.mem, 0
		s.mem = nil
	}
	if _, err := s.f.WriteAt(payload, at); err != nil {
		s.err = fmt.Errorf("stage a large transaction: %w", err)
	}
}

// complete says whether all parts that h tells of are there; alike on every copy.
func (s *staging) complete(h *txn.Header) error {
	if s == nil {
		return fmt.Errorf("operation %x: no parts came before it", h.Operation)
	}
	if s.next != h.Parts || s.size != h.BodyLen || s.crc != h.BodyCRC {
		return fmt.Errorf("operation %x: %d parts of %d bytes with CRC %08x came; it says %d, %d and %08x",
			h.Operation, s.next, s.size, s.crc, h.Parts, h.BodyLen, h.BodyCRC)
	}
	return nil
}

// broken says that the parts could not be kept.
func (s *staging) broken() bool { return s != nil && s.err != nil }

// reader reads the whole body.
func (s *staging) reader() (io.Reader, error) {
	if s.err != nil {
		return nil, s.err
	}
	if s.f == nil {
		return bytes.NewReader(s.mem), nil
	}
	return io.NewSectionReader(s.f, 0, int64(s.size)), nil
}

// drop forgets the body. A nil staging is fine.
func (s *staging) drop() {
	if s == nil || s.ended {
		return
	}
	s.ended = true
	s.mem = nil
	if s.f != nil {
		s.f.Close()
		_ = s.g.cfg.FS.Remove("staging.remove", s.path) // left ones are removed at the next start
	}
}
