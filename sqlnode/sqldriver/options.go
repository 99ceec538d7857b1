package sqldriver

import (
	"context"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// Option says how requests are answered: those of a database in Open, those of a context by With.
type Option func(*options)

// options are what Options set. The zero value leaves all to the tenant's defaults.
type options struct {
	consistency  wire.Consistency
	maxStaleness time.Duration // wire's meaning
	failOnStale  bool
	timeout      time.Duration
	timesAsText  bool

	levelSet bool // consistency and maxStaleness
	staleSet bool // failOnStale
}

// over is o where o says something, else what d says.
func (o options) over(d options) options {
	if o.levelSet {
		d.consistency, d.maxStaleness, d.levelSet = o.consistency, o.maxStaleness, true
	}
	if o.staleSet {
		d.failOnStale, d.staleSet = o.failOnStale, true
	}
	if o.timeout != 0 {
		d.timeout = o.timeout
	}
	d.timesAsText = d.timesAsText || o.timesAsText
	return d
}

// Strong makes reads see all that anybody was told before they began. It takes a round between the group's voters.
func Strong() Option {
	return func(o *options) { o.consistency, o.maxStaleness, o.levelSet = wire.Strong, 0, true }
}

// MaxStaleness makes reads see a state that is at most d old when they begin. d is positive; a shorter one than a millisecond is one.
func MaxStaleness(d time.Duration) Option {
	return func(o *options) {
		o.consistency, o.maxStaleness, o.levelSet = wire.Weak, max(d, time.Millisecond), true
	}
}

// AnyStaleness makes reads take a copy of any age that has what the session has seen.
func AnyStaleness() Option {
	return func(o *options) { o.consistency, o.maxStaleness, o.levelSet = wire.Weak, wire.AnyStaleness, true }
}

// FailOnStale makes reads for which this node's copy is too old fail with STALE, rather than go to another node.
func FailOnStale() Option {
	return func(o *options) { o.failOnStale, o.staleSet = true, true }
}

// Timeout bounds each request, beside its context. d is positive.
func Timeout(d time.Duration) Option {
	return func(o *options) { o.timeout = max(d, time.Millisecond) }
}

// TimesAsText gives texts of columns declared DATE, DATETIME and TIMESTAMP as they are stored.
func TimesAsText() Option {
	return func(o *options) { o.timesAsText = true }
}

// settings are what a context says of its requests.
type settings struct {
	options
	bookmark string
	key      string
	meta     func(wire.Meta)
}

type settingsKey struct{}

func with(ctx context.Context, set func(*settings)) context.Context {
	var s settings
	if of, ok := ctx.Value(settingsKey{}).(*settings); ok {
		s = *of
	}
	set(&s)
	return context.WithValue(ctx, settingsKey{}, &s)
}

// With gives a context whose requests are answered as the options say, before those of the database.
func With(ctx context.Context, opts ...Option) context.Context {
	return with(ctx, func(s *settings) {
		for _, o := range opts {
			o(&s.options)
		}
	})
}

// WithStrong is With(ctx, Strong()).
func WithStrong(ctx context.Context) context.Context { return With(ctx, Strong()) }

// WithMaxStaleness is With(ctx, MaxStaleness(d)).
func WithMaxStaleness(ctx context.Context, d time.Duration) context.Context {
	return With(ctx, MaxStaleness(d))
}

// WithBookmark gives a context whose requests see at least what the bookmark saw, beside what their session has. It is
// for what another session was told: by HTTP, or in another process.
func WithBookmark(ctx context.Context, bookmark string) context.Context {
	return with(ctx, func(s *settings) { s.bookmark = bookmark })
}

// WithIdempotencyKey gives a context whose writes happen at most once for 24 hours, however often the same
// statement is sent with the same arguments. It is for one statement: another one with the same key is refused with IDEMPOTENCY_MISMATCH.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	return with(ctx, func(s *settings) { s.key = key })
}

// WithMeta gives a context whose requests tell f, when they have ended well, where and how they were served. For rows that is when their
// last was fetched; f may then be called from another goroutine than the caller's, but before the caller sees that it was the last.
func WithMeta(ctx context.Context, f func(wire.Meta)) context.Context {
	return with(ctx, func(s *settings) { s.meta = f })
}
