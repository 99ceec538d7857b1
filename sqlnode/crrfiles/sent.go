package crrfiles

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"sync"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/wire"
)

// sent is what the node remembers of a file beside it: FORMAT.md. A file that is put back from an older copy is told from the one that was here by it.
type sent struct {
	file crr.FileID // the file that has, or had, this place
	upto crr.HLC    // its own transactions up to here have left the node, or may have
	next crr.FileID // id that the file takes when it is replaced; zero for none chosen
}

const (
	sentMagic   = "nqst"
	sentVersion = 1
	sentBytes   = 60   // of a slot
	sentSlot    = 4096 // where the second one is
)

var sentCRC = crc32.MakeTable(crc32.Castagnoli)

// errSentTorn is a slot that was not written whole.
var errSentTorn = errors.New("record of what a file has sent: not whole")

// SentVersionError is a record of another version of this package.
type SentVersionError struct{ Got byte }

func (e *SentVersionError) Error() string {
	return fmt.Sprintf("record of what a file has sent: version %d; this version reads %d", e.Got, sentVersion)
}

// appendSent writes a slot.
func appendSent(b []byte, seq uint64, r sent) []byte {
	from := len(b)
	b = append(b, sentMagic...)
	b = append(b, sentVersion, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = append(b, r.file[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.upto))
	b = append(b, r.next[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[from:], sentCRC))
}

// parseSent reads a slot.
func parseSent(b []byte) (seq uint64, r sent, err error) {
	if len(b) != sentBytes || string(b[:4]) != sentMagic {
		return 0, r, errSentTorn
	}
	if b[4] != sentVersion {
		return 0, r, &SentVersionError{b[4]}
	}
	if binary.BigEndian.Uint32(b[56:]) != crc32.Checksum(b[:56], sentCRC) || b[5]|b[6]|b[7] != 0 {
		return 0, r, errSentTorn
	}
	seq = binary.BigEndian.Uint64(b[8:])
	copy(r.file[:], b[16:])
	r.upto = crr.HLC(binary.BigEndian.Uint64(b[32:]))
	copy(r.next[:], b[40:])
	return seq, r, nil
}

// sentRecord is the record of one tenant's file.
type sentRecord struct {
	fs   disk.FS
	path string

	mu struct {
		sync.Mutex
		loaded bool
		there  bool // on disk, and readable
		seq    uint64
		is     sent
	}
}

// load reads the record; there is false when there is none that can be believed.
func (r *sentRecord) load() (is sent, there bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err = r.loadLocked()
	return r.mu.is, r.mu.there, err
}

func (r *sentRecord) loadLocked() error {
	if r.mu.loaded {
		return nil
	}
	b, err := disk.ReadFile(r.fs, "crr.sent.read", r.path, 2*sentSlot)
	if errors.Is(err, fs.ErrNotExist) {
		r.mu.loaded = true
		return nil
	}
	if err != nil {
		return err
	}
	for _, at := range []int{0, sentSlot} {
		if len(b) < at+sentBytes {
			continue
		}
		seq, is, err := parseSent(b[at : at+sentBytes])
		if errors.As(err, new(*SentVersionError)) {
			return fmt.Errorf("%s: %w", r.path, err)
		}
		if err == nil && (!r.mu.there || seq > r.mu.seq) {
			r.mu.there, r.mu.seq, r.mu.is = true, seq, is
		}
	}
	r.mu.loaded = true
	return nil
}

// storeLocked makes the record durable: in the slot that is not the newest, so that a write that is torn leaves the one before.
func (r *sentRecord) storeLocked(is sent) error {
	if err := r.writeLocked(is); err != nil {
		return fmt.Errorf("note what has left of the conflict-free tables: %w", err)
	}
	r.mu.is, r.mu.there = is, true
	r.mu.seq++
	return nil
}

func (r *sentRecord) writeLocked(is sent) (err error) {
	slot := appendSent(nil, r.mu.seq+1, is)
	if !r.mu.there {
		both := make([]byte, sentSlot+sentBytes)
		copy(both[sentSlot*int((r.mu.seq+1)%2):], slot)
		return disk.WriteFileAtomic(r.fs, "crr.sent.make", r.path, both, 0o600)
	}
	f, err := r.fs.OpenFile("crr.sent.open", r.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteAt(slot, sentSlot*int64((r.mu.seq+1)%2)); err != nil {
		return err
	}
	return f.Sync()
}

// begin makes the record one of a file that is about to be given a number: nothing has left of it.
func (r *sentRecord) begin(file crr.FileID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.loadLocked(); err != nil || r.mu.there && r.mu.is.file == file {
		return err
	}
	return r.storeLocked(sent{file: file})
}

// note makes durable that the file's own transactions up to a reading are about to leave.
func (r *sentRecord) note(file crr.FileID, upto crr.HLC) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.loadLocked(); err != nil {
		return err
	}
	if !r.mu.there || r.mu.is.file != file {
		return fmt.Errorf("conflict-free tables of file %s are about to leave this node, whose record is of file %s", file, r.mu.is.file)
	}
	if upto <= r.mu.is.upto {
		return nil
	}
	is := r.mu.is
	is.upto = upto
	return r.storeLocked(is)
}

// next returns the id that the file is to have when it is replaced, the same until that has happened.
func (r *sentRecord) next() (crr.FileID, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.loadLocked(); err != nil {
		return crr.FileID{}, err
	}
	is := r.mu.is
	if is.next != (crr.FileID{}) {
		return is.next, nil
	}
	var err error
	if is.next, err = crr.NewFileID(); err != nil {
		return is.next, err
	}
	return is.next, r.storeLocked(is)
}

// Sent makes durable that the file's own transactions up to a reading are about to leave this node. It waits for no turn.
func (f *File) Sent(file crr.FileID, upto crr.HLC) error { return f.sent.note(file, upto) }

// Next returns the id that the file takes in Replace: it may have its site number before that.
func (f *File) Next() (crr.FileID, error) { return f.sent.next() }

// checkSent has a file give its number up that is older than what it has sent, or of which this node does not know how much that is. Whatever it holds
// of that number is a beginning of what the number wrote, as long as it writes no more under it.
func (f *File) checkSent(s *crr.Site) error {
	me := s.Identity()
	if me.Site == 0 {
		return nil
	}
	is, there, err := f.sent.load()
	if err != nil {
		return err
	}
	had := f.closed
	switch {
	case !there || is.file != me.File:
		err = fmt.Errorf("this node has no record of what site %d has sent from file %s", me.Site, me.File)
	case had.Identity == me && s.Head().Seq < had.Seq:
		// Also when its own transactions are all there: others have been told of numbers of it that it is about to use again.
		err = fmt.Errorf("the file ends at its transaction %d, and had %d when this node closed it", s.Head().Seq, had.Seq)
	default:
		if err = s.CheckSent(me.File, is.upto); err == nil {
			return nil
		}
		if !errors.As(err, new(*crr.RewoundError)) || s.Identity().Site != 0 {
			return err
		}
	}
	if s.Identity().Site != 0 {
		if rerr := s.Renounce(); rerr != nil {
			return errors.Join(err, rerr)
		}
	}
	f.m.Stats.Rewound.Add(1)
	f.m.cfg.Log.Error("a file of conflict-free tables went back, as after a restore from a copy: it gets a new number", "id", f.id, "site", me.Site, "error", err)
	return nil
}

// sentPath is where the record of a tenant's file is.
func (m *Manager) sentPath(id wire.TenantID) string { return m.Path(id) + ".sent" }
