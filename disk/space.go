package disk

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// SpaceConfig says what a Space watches.
type SpaceConfig struct {
	Free    func() (int64, error) // bytes that the disk has left for this process
	Reserve int64                 // bytes that are left alone; at least LogRoom for each log. 0 or less: nothing is ever refused
	Believe time.Duration         // how long a sample of Free is believed at most; 0 for a second, less for never
	Log     *slog.Logger          // nil for none
}

// LogRoom is what the log of one group may take of the disk when nothing else may take more: a new file of 16 MiB, which is
// reserved at once, and what is under way to the old one.
const LogRoom = 20 << 20

// fillRate is faster than anything fills a disk, in bytes per second: a sample of the free space is believed for as
// long as that rate needs for half of what is left above the reserve, at most SpaceConfig.Believe.
const (
	fillRate = 8 << 30
	// refusedFor is how long a refusal stands if nothing was written since.
	refusedFor = 10 * time.Millisecond
)

// Space shares out the free space of the disk that a node's data is on, so that what must not fail, the log, never meets
// its end, however fast others write. From the most room to the least:
//
//   - above the reserve all may write;
//   - below it commits, imports, copies, temporary files and the like are refused (Reserve, Take), and what follows
//     from commits goes on: entries from other nodes (Entries), and checkpoints and what makes the log shorter (FS);
//   - below LogRoom for each log only the logs write, what is under way to them.
//
// The free space is sampled. Since the newest sample everything counts that was written through FS, or announced by Take,
// as if it had made files larger; so does what was admitted and is not in the log yet. What others write is seen
// with the next sample, which is due the sooner the less is left.
//
// All methods may be called by several goroutines, and of a nil Space, which never refuses.
type Space struct {
	cfg SpaceConfig

	// begun is what is being or was written, ended what was: bytes, since ever. A sample may lack what had not ended before it.
	begun, ended atomic.Int64

	mu struct {
		sync.Mutex
		sampled time.Time // zero before the first
		free    int64     // then
		seen    int64     // ended, just before the sample
		pending int64     // bytes admitted by Reserve
		logs    int64
		refuses bool // commits
		stops   bool // entries of other nodes
	}
}

// NewSpace returns a Space; nil if it would never refuse.
func NewSpace(cfg SpaceConfig) *Space {
	if cfg.Reserve <= 0 || cfg.Free == nil {
		return nil
	}
	if cfg.Believe == 0 {
		cfg.Believe = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Space{cfg: cfg}
}

// NoSpaceError refuses to write to a disk that is nearly full. It is syscall.ENOSPC to errors.Is, and so to IsFull.
type NoSpaceError struct {
	Want, Left, Keep int64 // bytes: asked for, left on the disk, and kept
}

func (e *NoSpaceError) Error() string {
	return fmt.Sprintf("%d bytes are left on the disk, of which %d are kept: too few for %d", max(e.Left, 0), e.Keep, e.Want)
}

// Is says that the error is that of a full disk.
func (e *NoSpaceError) Is(target error) bool { return target == syscall.ENOSPC }

// SetLogs says how many logs there are, each of which is kept LogRoom.
func (s *Space) SetLogs(n int) {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.mu.logs = int64(n)
	s.mu.Unlock()
}

// Reserve asks for room for n bytes that will be written later, through FS. When they are, or will not be, Release must be called.
func (s *Space) Reserve(n int64) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.roomLocked(n, s.reserveLocked())
	if err == nil {
		s.mu.pending += n
	}
	s.noteLocked(err)
	return err
}

// Release ends a Reserve.
func (s *Space) Release(n int64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.mu.pending -= n
	s.mu.Unlock()
}

// Fits says whether there is room for n bytes now, as Reserve would.
func (s *Space) Fits(n int64) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.roomLocked(n, s.reserveLocked())
	s.noteLocked(err)
	return err
}

// Take asks for room for n bytes that are about to be written past FS.
func (s *Space) Take(n int64) error {
	err := s.Fits(n)
	if s != nil && err == nil {
		s.begun.Add(n)
		s.ended.Add(n) // a sample that comes before they are written lacks them, as it lacks what other processes write
	}
	return err
}

// Entries asks for room for entries of n bytes that another node wants in a log here, and that it may keep for itself for now.
func (s *Space) Entries(n int64) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.roomLocked(2*n, s.mu.logs*LogRoom) // parts of a large transaction are staged besides
	if stops := err != nil; stops != s.mu.stops {
		s.mu.stops = stops
		s.cfg.Log.Warn("log entries of other nodes wait for disk space", "bytes", s.leftLocked(), "kept", s.mu.logs*LogRoom, "refused", stops)
	}
	return err
}

// Free is how much the disk had left at the newest sample, less what was written and admitted since: bytes.
func (s *Space) Free() (int64, error) {
	if s == nil {
		return 1 << 62, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.sampleLocked(); err != nil {
		return 0, err
	}
	return s.leftLocked(), nil
}

// Room is how much there is above the reserve, in bytes.
func (s *Space) Room() int64 {
	free, err := s.Free()
	if s == nil || err != nil {
		return 1 << 62
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(free-s.reserveLocked(), 0)
}

// reserveLocked is what commits leave alone.
func (s *Space) reserveLocked() int64 { return max(s.cfg.Reserve, s.mu.logs*LogRoom) }

// leftLocked is what is surely left, but for what others wrote since the sample.
func (s *Space) leftLocked() int64 { return s.mu.free - (s.begun.Load() - s.mu.seen) - s.mu.pending }

// roomLocked says whether keep bytes are left behind n more. A disk that does not tell refuses nothing.
func (s *Space) roomLocked(n, keep int64) error {
	age := time.Since(s.mu.sampled)
	above := s.leftLocked() - n - keep
	if !s.mu.sampled.IsZero() {
		believed := min(s.cfg.Believe, time.Duration(max(above, 0)/2/(fillRate/1_000_000))*time.Microsecond)
		if above >= 0 && age < believed {
			return nil
		}
		if above < 0 && age < min(refusedFor, s.cfg.Believe) && s.begun.Load() == s.mu.seen {
			return &NoSpaceError{n, s.leftLocked(), keep}
		}
	}
	if err := s.sampleLocked(); err != nil {
		return nil
	}
	if left := s.leftLocked(); left-n < keep {
		return &NoSpaceError{n, left, keep}
	}
	return nil
}

func (s *Space) sampleLocked() error {
	seen := s.ended.Load() // before the sample: what ends meanwhile may or may not be in it, and counts
	free, err := s.cfg.Free()
	if err != nil {
		return err
	}
	s.mu.free, s.mu.seen, s.mu.sampled = free, seen, time.Now()
	return nil
}

// noteLocked logs when refusals begin, and when there is clearly room again.
func (s *Space) noteLocked(err error) {
	keep := s.reserveLocked()
	switch left := s.leftLocked(); {
	case err != nil && !s.mu.refuses:
		s.mu.refuses = true
	case err == nil && s.mu.refuses && left > keep+keep/16:
		s.mu.refuses = false
	default:
		return
	}
	s.cfg.Log.Warn("free disk space", "bytes", s.leftLocked(), "reserve", keep, "writes_refused", s.mu.refuses)
}
