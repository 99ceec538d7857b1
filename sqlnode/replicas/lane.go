package replicas

import (
	"bytes"
	"log/slog"
	"sync/atomic"

	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// Lane is the tail of a group that this node has the log of, as pagestore.Config.Observer of the group: what nodes that don't vote are fed from.
type Lane struct {
	group wire.GroupID
	limit int64
	log   *slog.Logger
	tail  atomic.Pointer[replica.Tail]
}

var _ pagestore.Observer = (*Lane)(nil)

// NewLane makes the lane of a group. limit is how many bytes of entries it keeps; 0 means replica.TailBytes. log may be nil.
func NewLane(group wire.GroupID, limit int64, log *slog.Logger) *Lane {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &Lane{group: group, limit: limit, log: log}
	l.tail.Store(replica.NewTail(group, 0, limit))
	return l
}

// Tail is the tail as it is now. When the log passes this node by, another takes its place.
func (l *Lane) Tail() *replica.Tail { return l.tail.Load() }

// End says that nothing more comes: the node has the group no more.
func (l *Lane) End() { l.tail.Load().End() }

// Begun implements pagestore.Observer.
func (l *Lane) Begun(index uint64) {
	l.tail.Swap(replica.NewTail(l.group, index, l.limit)).End()
}

// Applied implements pagestore.Observer.
func (l *Lane) Applied(index uint64, entry []byte) {
	if err := l.tail.Load().Append(index, bytes.Clone(entry)); err != nil {
		// It was applied, so this can't be; who is fed begins anew, and misses nothing.
		l.log.Error("an entry that was applied can't be passed on", "group", l.group, "index", index, "error", err)
		l.Begun(index)
	}
}

// Passed implements pagestore.Observer.
func (l *Lane) Passed(index uint64) { l.tail.Load().Advance(index) }

// Renewed implements pagestore.Observer.
func (l *Lane) Renewed(id wire.TenantID, index uint64) { l.tail.Load().Renew(id, index) }

// Left implements pagestore.Observer.
func (l *Lane) Left(id wire.TenantID) { l.tail.Load().Leave(id) }
