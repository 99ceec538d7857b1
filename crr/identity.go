package crr

import (
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/wire"
)

// RewoundError says that the file is older than what it has sent: it is a copy or was restored. Its number would be used twice for
// different transactions, and increments be lost; the site has given it up. It takes local writes again when it has been given a new one
// (Identity, Adopt); what it had not sent is lost with the newer file.
type RewoundError struct {
	Site SiteID
	Have HLC // newest own transaction in the file
	Sent HLC // newest that somebody has
}

func (e *RewoundError) Error() string {
	return fmt.Sprintf("crr: site %d has been rewound: its file ends at %s, others have its transactions up to %s; it needs a new number", e.Site, e.Have, e.Sent)
}

// Adopt gives the file the number that the strong schema has for its id.
func (s *Site) Adopt(file FileID, site SiteID) error {
	switch {
	case site == 0:
		return errors.New("crr: site 0 is none")
	case file != s.me.File:
		return fmt.Errorf("crr: number %d is for file %s, not for %s", site, file, s.me.File)
	case s.me.Site == site:
		return nil
	case s.me.Site != 0:
		return fmt.Errorf("crr: the file has number %d", s.me.Site)
	case s.vv[site] != 0:
		return fmt.Errorf("crr: number %d has been used: its transactions up to %s are here", site, s.vv[site])
	}
	if err := s.inTx(func() error { return s.exec("UPDATE crr.__crr_self SET site=?", wire.Integer(int64(site))) }); err != nil {
		return fmt.Errorf("take number %d: %w", site, err)
	}
	s.me.Site, s.track.site = site, site
	s.publish()
	return nil
}

// Renounce gives up the file's number and id, and takes a new id: for a file that is or may be a copy of another
// one's state. What it has of the old number is from then on another site's.
func (s *Site) Renounce() error {
	file, err := newFileID(s.cfg.Random)
	if err != nil {
		return err
	}
	err = s.inTx(func() error {
		if s.me.Site != 0 && s.vv[s.me.Site] != 0 {
			if err := s.storeVector(s.me.Site, s.vv[s.me.Site]); err != nil {
				return err
			}
		}
		return s.exec("UPDATE crr.__crr_self SET site=NULL, hlc=0, file=?", wire.Blob(file[:]))
	})
	if err != nil {
		return fmt.Errorf("give up number %d: %w", s.me.Site, err)
	}
	s.me.Site, s.me.hlc, s.me.File, s.track.site = 0, 0, file, 0
	s.publish()
	return nil
}

func (s *Site) storeVector(site SiteID, h HLC) error {
	return s.exec("INSERT INTO crr.__crr_vv VALUES(?,?) ON CONFLICT(site) DO UPDATE SET hlc=excluded.hlc", wire.Integer(int64(site)), wire.Integer(int64(h)))
}

// CheckSent compares the file with what is known elsewhere on the node of the newest
// transaction that its id has sent. A file that ends before it gives up its number.
func (s *Site) CheckSent(file FileID, sent HLC) error {
	if s.me.Site == 0 || file != s.me.File {
		return nil
	}
	return s.rewound(Vector{s.me.Site: sent})
}

// rewound gives up the number when v has more of this site than the file.
func (s *Site) rewound(v Vector) error {
	if s.me.Site == 0 || v[s.me.Site] <= s.me.hlc {
		return nil
	}
	e := &RewoundError{s.me.Site, s.me.hlc, v[s.me.Site]}
	if err := s.Renounce(); err != nil {
		return errors.Join(e, err)
	}
	return e
}
