package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Pool is a number of open connections to one server. Its methods are called by one goroutine.
type Pool struct {
	addr  string
	conns []*conn
	next  atomic.Int64 // number of the next request
}

// Dial opens n connections to HOST:PORT.
func Dial(addr string, n int) (*Pool, error) {
	p := &Pool{addr: addr}
	for range n {
		c, err := dial(addr)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.conns = append(p.conns, c)
	}
	return p, nil
}

// Close closes the connections.
func (p *Pool) Close() (err error) {
	for _, c := range p.conns {
		err = errors.Join(err, c.c.Close())
	}
	return err
}

// Run is what a run does.
type Run struct {
	// Duration ends the run, and so does Requests, whichever comes first; 0 means without this end.
	Duration time.Duration
	Requests int64
	// Request appends the i-th request, which is a whole one (AppendPost), to dst. It is called by several
	// goroutines. i goes on from run to run.
	Request func(dst []byte, i int64) []byte
	// Check looks at an answer; its error ends the run. nil takes status 200 alone.
	Check func(i int64, status int, body []byte) error
}

// Result is how a run went.
type Result struct {
	Requests int64 // answered
	Elapsed  time.Duration
	Latency  Histogram
}

// PerSecond is the rate of answers.
func (r *Result) PerSecond() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

// StatusError says that an answer was not what was wanted.
type StatusError struct {
	Status int
	Body   string
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %.200s", e.Status, e.Body) }

// Run loads the server. It returns when the last answer has come.
func (p *Pool) Run(ctx context.Context, run Run) (*Result, error) {
	if run.Duration <= 0 && run.Requests <= 0 {
		return nil, errors.New("load: the run has no end")
	}
	if run.Check == nil {
		run.Check = func(_ int64, status int, body []byte) error {
			if status != 200 {
				return &StatusError{status, string(body)}
			}
			return nil
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg   sync.WaitGroup
		left atomic.Int64
		mu   sync.Mutex
		sum  Result
	)
	left.Store(run.Requests)
	began := time.Now()
	for _, c := range p.conns {
		wg.Go(func() {
			var h Histogram
			for ctx.Err() == nil && (run.Requests <= 0 || left.Add(-1) >= 0) {
				i := p.next.Add(1) - 1
				c.out = run.Request(c.out[:0], i)
				sent := time.Now()
				if run.Duration > 0 && sent.Sub(began) >= run.Duration {
					break
				}
				status, body, err := c.do()
				h.Add(time.Since(sent))
				if err == nil {
					err = run.Check(i, status, body)
				}
				if err != nil {
					cancel(fmt.Errorf("request %d to %s: %w", i, p.addr, err))
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			sum.Latency.Merge(&h)
		})
	}
	wg.Wait()
	sum.Elapsed = time.Since(began)
	sum.Requests = sum.Latency.Count()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return &sum, nil
}
