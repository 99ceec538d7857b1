package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/sqlnode/engine"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/wire"
)

// strongMeasure is how long a way may take that is tried only to be measured.
const strongMeasure = 3 * time.Second

// readStrong runs a strong read on a copy that follows, or forwards it: whichever is quicker. What reads conflict-free tables is forwarded: whoever answers it
// asks all sites.
func (n *Node) readStrong(ctx context.Context, name string, r *resident, req *wire.Request, sink wire.Sink, lv readpath.Level) (engine.Executed, age, error) {
	if r.Failed() != nil || n.readsTables(r, req) {
		return engine.Executed{}, age{}, n.forwardStrong(r, lv)
	}
	ways := n.repl.strong
	st, _ := n.repl.follower.Status(r.ID())
	at := strongAt{group: r.group, feeder: st.Feeder, node: n.memberOf(r.group)}
	c, cold := ways.choose(at, readpath.WayFacts{
		Askable: st.Joined, Elsewhere: at.node != "", OnStale: lv.OnStale, Now: time.Now(), Time: req.Timeout,
	}, req)
	if c.MeasureIndex {
		go n.measureIndex(context.WithoutCancel(ctx), at, r.ID())
	}
	if c.MeasureVoter {
		go n.measureForward(context.WithoutCancel(ctx), at, name, cold)
	}
	if c.Way == readpath.ByIndex {
		began := time.Now()
		d, err := n.byIndex(ctx, r, lv, c)
		if ctx.Err() != nil {
			return engine.Executed{}, age{}, wire.AsError(ctx.Err())
		}
		var missed *missedError
		if !errors.As(err, &missed) {
			ways.took(at, readpath.ByIndex, time.Since(began), false, nil)
			if err != nil {
				return engine.Executed{}, age{}, err
			}
			ways.index.Add(1)
			return n.serveReplica(ctx, name, r, req, sink, d)
		}
		ways.took(at, readpath.ByIndex, time.Since(began), false, err)
		if lv.OnStale == readpath.StaleFails {
			return engine.Executed{}, age{}, wire.NewError(wire.CodeStale, "%w, and no other node was to be asked", err)
		}
	}
	err := n.forwardStrong(r, lv)
	var away *httpapi.ElsewhereError
	if errors.As(err, &away) {
		ways.forwards(at, req, c.Way == readpath.ByIndex)
	}
	return engine.Executed{}, age{}, err
}

// forwardStrong is the httpapi.ElsewhereError that forwards a strong read, or why it can't be.
func (n *Node) forwardStrong(r *resident, lv readpath.Level) error {
	start, _ := n.ticks.Now()
	f := n.replicaFacts(r)
	d := readpath.Decide(lv, &f, start)
	if d.Action != readpath.Forward {
		return d.Err
	}
	return &httpapi.ElsewhereError{Node: d.Node, Reads: true}
}

// missedError says that the copy here could not be brought to show all that was answered before a read.
type missedError struct{ err error }

// Error implements error.
func (e *missedError) Error() string {
	return fmt.Sprintf("it is not known in time what the copy of this node lacks: %v", e.err)
}

// Unwrap returns why.
func (e *missedError) Unwrap() error { return e.err }

// byIndex returns when the copy shows all that anybody was answered before the call, or a *missedError if that can't be within c.Limit. Other errors
// are the read's outcome.
func (n *Node) byIndex(ctx context.Context, r *resident, lv readpath.Level, c readpath.WayChoice) (readpath.Decision, error) {
	late, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		d, err := n.askIndex(late, r, lv)
		var missed *missedError
		if !errors.As(err, &missed) || !c.Only || errors.Is(err, replica.ErrNotFollowed) {
			return d, err
		}
		pause(late, wait) // there is no other way
		if late.Err() != nil {
			return d, err
		}
	}
}

// askIndex is byIndex, once.
func (n *Node) askIndex(ctx context.Context, r *resident, lv readpath.Level) (readpath.Decision, error) {
	start, _ := n.ticks.Now()
	if err := n.repl.follower.Confirm(ctx, r.ID()); err != nil {
		return readpath.Decision{}, &missedError{err}
	}
	// The question was sent after start: that is proved by the order of the calls, whatever the clocks show. So the copy, as it stands from now on, contains all
	// that was answered before start, and a bound of nothing at all is kept.
	f := n.replicaFacts(r)
	f.Copy.Fresh = readpath.Freshness{Known: true, AsOf: readpath.Instant{Mono: start.Mono + 1, Boot: start.Boot + 1, Wall: start.Wall + 1}}
	lv.Consistency, lv.Staleness = readpath.Bounded, 0
	d := readpath.Decide(lv, &f, start)
	switch {
	case d.Action == readpath.Refuse && d.Err.Code != wire.CodeStale:
		return d, d.Err
	case d.Action != readpath.Serve:
		return d, &missedError{errors.New("the copy is out of service")}
	}
	if r.Position().TXID < d.TXID {
		if err := visible(ctx, r.Tenant, d.TXID); err != nil {
			return d, &missedError{err}
		}
	}
	return d, nil
}

// measureIndex asks for the index, and waits until what leads to it is here, only to know how long that takes. It ends by itself.
func (n *Node) measureIndex(ctx context.Context, at strongAt, id wire.TenantID) {
	ctx, cancel := context.WithTimeout(ctx, strongMeasure)
	defer cancel()
	began := time.Now()
	err := n.repl.follower.Confirm(ctx, id)
	n.repl.strong.took(at, readpath.ByIndex, time.Since(began), true, err)
}

// errMeasured ends a request that is made only to know how long it takes, when it has no answer.
var errMeasured = errors.New("the node that reads are forwarded to did not answer")

// measureForward has a strong read of nothing forwarded, only to know how long that takes; cold: a connection may have to be made first, which is not what
// is to be known. It ends by itself.
func (n *Node) measureForward(ctx context.Context, at strongAt, name string, cold bool) {
	ctx, cancel := context.WithTimeout(ctx, strongMeasure)
	defer cancel()
	req := &wire.Request{Statements: []wire.Statement{{SQL: "SELECT 1"}}, Consistency: wire.Strong, Timeout: strongMeasure}
	away := &httpapi.ElsewhereError{Node: at.node, Reads: true, Either: true, Err: wire.NewError(wire.CodeUnreachable, "%w", errMeasured)}
	began := time.Now()
	_, err := n.inside.forward(ctx, n, name, req, noAnswer{}, away)
	if err == nil && cold {
		began = time.Now()
		_, err = n.inside.forward(ctx, n, name, req, noAnswer{}, away)
	}
	n.repl.strong.took(at, readpath.ByVoter, time.Since(began), true, err)
}

// noAnswer is a wire.Sink for an answer that nobody wants.
type noAnswer struct{}

// Begin implements wire.Sink.
func (noAnswer) Begin(int, []wire.Column) error { return nil }

// Row implements wire.Sink.
func (noAnswer) Row([]wire.Value) error { return nil }

// End implements wire.Sink.
func (noAnswer) End(wire.Summary) error { return nil }
