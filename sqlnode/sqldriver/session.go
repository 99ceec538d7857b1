package sqldriver

import (
	"cmp"
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
	if text, own := joined(s.mu.newest, req.Bookmark); own {
		req.Bookmark = text
		m.own = s.mu.newest
	}
	return m
}

// joined is the bookmark that a request goes with, and says whether the session's has a part in it. Of two tenants, or of one that
// is none, the request's own is sent: the node says what is wrong with it.
func joined(newest, own string) (text string, session bool) {
	if newest == "" || own == "" {
		return cmp.Or(own, newest), newest != ""
	}
	both, ok := wire.JoinBookmarks(newest, own)
	if !ok || both == own {
		return own, false
	}
	return both, true
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

// keepLocked keeps what two bookmarks of one tenant saw, and of two tenants the one that came last: the name
// has changed hands.
func (s *session) keepLocked(bookmark string) {
	if bookmark == "" {
		return
	}
	if both, ok := wire.JoinBookmarks(s.mu.newest, bookmark); ok {
		bookmark = both
	}
	s.mu.newest = bookmark
}
