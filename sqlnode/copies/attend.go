package copies

import (
	"context"
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
)

// attend does what is to be done about one copy now.
func (f *Fetcher) attend(ctx context.Context, a pagestore.Ailing, count int) outcome {
	o := outcome{id: a.Tenant.ID()}
	m := f.cfg.Members.Members(ctx)
	facts := f.facts(ctx, a, m)
	act := Decide(facts)
	o.handOn = act == HandOn
	switch act {
	case Leave:
		o.soon = facts.Others == 0
		return o
	case HandOn:
		o.soon = true // to ask again when another leads
		return o
	case Hold:
		f.Stats.Held.Add(1)
		f.sometimes(count, "a copy contradicts the log and is not replaced, as no majority was seen to contradict it", a, nil)
		return o
	case TakeOut:
		f.Stats.TakenOut.Add(1)
		f.cfg.Log.Warn("a copy with a corrupt page goes out of service, to be rebuilt", "id", o.id, "group", f.cfg.Group.ID(), "error", a.Err)
		a.Tenant.Failure(a.Err)
		if a, o.done = f.now(a); o.done {
			return o
		}
	}
	f.Stats.Active.Add(1)
	err := f.fetch(ctx, a, m.Others)
	f.Stats.Active.Add(-1)
	if err == nil {
		o.done = true
		return o
	}
	if ctx.Err() == nil {
		f.sometimes(count, "no member gave a copy", a, err)
	}
	var refused *RefusedError
	if errors.As(err, &refused) {
		o.after = refused.RetryAfter
		o.soon = refused.Code == CodeBusy || refused.Code == CodeStaging
	}
	return o
}

// now is how the copy is after something was done about it; done says that nothing is wrong any more.
func (f *Fetcher) now(a pagestore.Ailing) (_ pagestore.Ailing, done bool) {
	is, ails := a.Tenant.Ailing()
	return is, !ails || is.InService
}

// sometimes logs the 1st, 2nd, 4th, 8th failure.
func (f *Fetcher) sometimes(count int, what string, a pagestore.Ailing, err error) {
	if n := count + 1; n&(n-1) != 0 {
		return
	}
	args := []any{"id", a.Tenant.ID(), "group", f.cfg.Group.ID(), "tries", count + 1, "why", a.Err}
	if err != nil {
		args = append(args, "error", err)
	}
	f.cfg.Log.Warn(what, args...)
}

// facts asks others as far as the decision needs it.
func (f *Fetcher) facts(ctx context.Context, a pagestore.Ailing, m Membership) Facts {
	facts := Facts{Others: len(m.Others), Primary: f.cfg.Primary(), Fault: faultOf(a)}
	if m.Voter {
		facts.Voters++
	}
	for _, o := range m.Others {
		if o.Voter {
			facts.Voters++
			facts.Heirs++
		}
	}
	if facts.Fault != Rotten && facts.Fault != Diverged {
		return facts
	}
	past := min(a.TXID+1, a.Tenant.Logged().TXID)
	for _, o := range m.Others {
		if facts.Fault == Rotten && facts.Sound > 0 || ctx.Err() != nil {
			break
		}
		s, err := f.status(ctx, o.Node, a.Tenant.ID())
		if err != nil || !s.Sound() || s.Epoch != a.Epoch {
			continue
		}
		facts.Sound++
		if o.Voter && s.TXID >= past {
			facts.Agree++
		}
	}
	return facts
}

func faultOf(a pagestore.Ailing) Fault {
	switch {
	case a.InService:
		return Rotten
	case a.Hollow:
		return Hollow
	case a.Diverged:
		return Diverged
	}
	return Failed
}

// lateMax is how often in a row a copy may come too late before there is a pause.
const lateMax = 50

// fetch asks one member after the other for a copy.
func (f *Fetcher) fetch(ctx context.Context, a pagestore.Ailing, from []Member) error {
	var all error
	late := 0
	for i := 0; i < len(from); i++ {
		have := a.Tenant.Have()
		err := f.fetchFrom(ctx, a, have, from[i].Node, from)
		if err == nil {
			return nil
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, pagestore.ErrInService), errors.Is(err, pagestore.ErrNoTenant), errors.Is(err, pagestore.ErrClosed):
			return nil // it is not wanted any more
		case errors.Is(err, pagestore.ErrCopying):
			return err // another fetches it
		case full(err):
			return err // as no other member can help
		}
		f.countError(err)
		all = errors.Join(all, fmt.Errorf("from %s: %w", from[i].Node, err))
		now := a.Tenant.Have()
		switch {
		case have.State.TXID > 0 && now.State.TXID == 0:
			i-- // what was here was at fault: the same member, for all pages
		case now.State.TXID > have.State.TXID && late < lateMax:
			// It came whole and too late. What changed meanwhile is less, and must not become more by waiting.
			late++
			i--
			a, _ = f.now(a)
		}
	}
	return all
}

func (f *Fetcher) countError(err error) {
	f.Stats.Errors.Add(1)
	var (
		refused *RefusedError
		damaged *pagestore.CopyError
	)
	switch {
	case errors.As(err, &refused):
		f.Stats.Refused.Add(1)
	case errors.As(err, &damaged) && !errors.Is(err, errBroken):
		f.Stats.Damaged.Add(1)
	}
}
