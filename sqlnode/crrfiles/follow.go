package crrfiles

import "github.com/nearsql/nearsql/crr"

// sync makes the file follow main. Under the turn.
func (f *File) sync() error {
	w := f.w
	at := uint64(w.store.Committed().TXID)
	if at == f.synced.Load() && at != 0 {
		return nil
	}
	c := w.Conn.Conn
	have := w.Site.Schema().Version
	changes, err := Changes(c, have)
	if err != nil {
		return err
	}
	if len(changes) == 0 && have > 0 {
		main, err := newest(c)
		if err == nil && main < have {
			err = &AheadError{have, main}
		}
		if err != nil {
			return err
		}
	}
	for _, ch := range changes {
		if err := w.Site.ApplySchema(ch); err != nil {
			return err
		}
		f.m.Stats.SchemaChanges.Add(1)
		f.m.cfg.Log.Info("conflict-free schema changed", "id", f.id, "version", ch.Version)
	}
	members, err := Members(c, f.id)
	if err != nil {
		return err
	}
	w.Site.SetMembers(members)
	w.members = members
	if err := f.adopt(w.Site, members); err != nil {
		return err
	}
	f.state.Store(w.Site.Schema())
	f.synced.Store(at)
	return nil
}

// adopt takes the number that the strong schema has for the file, and begins to note what leaves under it.
func (f *File) adopt(s *crr.Site, members []crr.Member) error {
	me := s.Identity()
	if me.Site != 0 {
		return nil
	}
	for _, m := range members {
		if m.File == me.File && m.State == crr.Active {
			if err := f.sent.begin(m.File); err != nil {
				return err
			}
			return s.Adopt(m.File, m.Site)
		}
	}
	return nil
}

// behind says whether main has moved since the file was brought up to it.
func (f *File) behind() bool {
	if !f.open.Load() || f.failed.Load() != nil {
		return false
	}
	f.m.mu.Lock()
	t := f.tenant
	f.m.mu.Unlock()
	return uint64(t.Position().TXID) != f.synced.Load()
}
