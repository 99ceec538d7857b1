package sqldriver

import (
	"errors"
	"strings"
	"sync"

	"github.com/nearsql/nearsql/wire"
)

// session is what the requests of one database have seen, so that later ones see it too.
type session struct {
	mu struct {
		sync.Mutex
		newest string // bookmark; "" for none
		// shown counts what was shown that newest may not have; covered is up to which of them it has.
		// invariant: covered <= shown
		shown, covered uint64
	}
}

// mark is what the session had seen when a request began.
type mark struct {
	own   string // the session's bookmark, if the request has it
	shown uint64
}

func (s *session) bookmark() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.newest
}

// begin makes req see what the session has seen.
func (s *session) begin(req *wire.Request) mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := mark{shown: s.mu.shown}
	if s.mu.covered < s.mu.shown {
		req.Consistency, req.MaxStaleness = wire.Strong, 0
	}
	if later(s.mu.newest, req.Bookmark) {
		req.Bookmark = s.mu.newest
		m.own = s.mu.newest
	}
	return m
}

// later says whether the session's bookmark is to be sent in place of the request's own. One of another tenant, or that is
// none, is sent: the node says what is wrong with it.
func later(newest, own string) bool {
	if newest == "" || own == "" {
		return newest != ""
	}
	a, err := wire.ParseBookmark(newest)
	b, err2 := wire.ParseBookmark(own)
	if err != nil || err2 != nil {
		return false
	}
	ta, tb := a, b
	ta.Epoch, ta.TXID, ta.Checksum = 0, 0, 0
	tb.Epoch, tb.TXID, tb.Checksum = 0, 0, 0
	return ta == tb && newest > own
}

// end keeps what a request has seen.
func (s *session) end(m mark, req *wire.Request, meta *wire.Meta, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.keepLocked(meta.Bookmark)
		if meta.Consistency == wire.Strong {
			s.mu.covered = max(s.mu.covered, m.shown)
		}
		return
	}
	var e *wire.Error
	if !errors.As(err, &e) {
		return
	}
	switch {
	case e.Code == wire.CodeBookmarkLost, e.Code == wire.CodeBadBookmark:
		// The caller is told; what was lost can't be waited for. A bookmark that is bad is of a tenant that had the name before.
		if m.own != "" && s.mu.newest == m.own {
			s.mu.newest = ""
		}
	case strings.HasPrefix(string(e.Code), "SQLITE_CONSTRAINT"), e.Code == wire.CodeUnknownOutcome:
		s.mu.shown++ // an error tells of the data too
	}
}

// left says that an answer was not read to its end.
func (s *session) left() {
	s.mu.Lock()
	s.mu.shown++
	s.mu.Unlock()
}

// keepLocked keeps the newer of two bookmarks of one tenant, and of two tenants the one that came last: the name
// has changed hands.
func (s *session) keepLocked(bookmark string) {
	if bookmark != "" && !later(s.mu.newest, bookmark) {
		s.mu.newest = bookmark
	}
}
