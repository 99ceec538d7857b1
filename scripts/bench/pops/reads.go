package main

import (
	"context"
	"database/sql"
	"slices"
	"sync"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/scripts/bench/figures"
	"github.com/nearsql/nearsql/sqlnode/sqldriver"
	"github.com/nearsql/nearsql/wire"
)

// staleness asks all followers, while there is load, how old what they read may be.
func (b *bench) staleness(ctx context.Context) error {
	loaded := make(chan error, 1)
	go func() {
		_, err := b.load(ctx)
		loaded <- err
	}()
	var mu sync.Mutex
	byNode := map[string][]float64{}
	fed := b.fedByVoters()
	var wg sync.WaitGroup
	until := time.Now().Add(b.slice)
	failed := make(chan error, len(b.followers()))
	for k, n := range b.followers() {
		wg.Go(func() {
			for i := k; time.Now().Before(until) && ctx.Err() == nil; i++ {
				m, err := n.Execute(ctx, name(i%b.tenants), &wire.Request{MaxStaleness: wire.AnyStaleness, Consistency: wire.Weak, Statements: []wire.Statement{{SQL: "select max(id) from t"}}}, nothing{})
				if err != nil {
					failed <- err
					return
				}
				if m.Node == n.id {
					mu.Lock()
					byNode[n.id] = append(byNode[n.id], float64(m.Staleness)/1e6)
					mu.Unlock()
				}
				time.Sleep(25 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	if err := <-loaded; err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
	}
	var every, direct []float64
	byVoters := fed.since(b.fedByVoters())
	for id, list := range byNode {
		every = append(every, list...)
		if byVoters[id] {
			direct = append(direct, list...)
		}
	}
	var best []float64
	for _, list := range byNode {
		best = append(best, figures.Quantile(list, 0.5))
	}
	slices.Sort(best)
	b.Say("staleness that %d followers at 80 ms say of %d reads: p50 %.0f, p90 %.0f, p99 %.0f, greatest %.0f ms; the followers' medians are %.0f to %.0f ms", len(byNode), len(every),
		figures.Quantile(every, 0.5), figures.Quantile(every, 0.9), figures.Quantile(every, 0.99), slices.Max(every), best[0], best[len(best)-1])
	if len(direct) > 0 {
		b.Say("of them those that voters alone feed: %d reads, p50 %.0f, p99 %.0f ms", len(direct), figures.Quantile(direct, 0.5), figures.Quantile(direct, 0.99))
	}
	b.Figure("staleness_p99_at_80ms", figures.Quantile(every, 0.99), "ms")
	return nil
}

// relayed is how many bytes each follower has been sent by others that follow.
type relayed map[string]int64

func (b *bench) fedByVoters() relayed {
	r := relayed{}
	for _, to := range b.followers() {
		for _, from := range b.followers() {
			r[to.id] += b.net.Sent(from.id, to.id, cluster.PurposeStream)
		}
	}
	return r
}

// since says which followers were sent next to nothing by others that follow since then: questions and answers are a few bytes.
func (r relayed) since(now relayed) map[string]bool {
	direct := map[string]bool{}
	for id, n := range now {
		direct[id] = n-r[id] < 1000
	}
	return direct
}

// weakReads compares reads by the driver on a follower with those on the primary, in turns.
func (b *bench) weakReads(ctx context.Context) error {
	far := sqldriver.Open(b.followers()[0].Node, name(0))
	defer far.Close()
	near := sqldriver.Open(b.primary.Node, name(0))
	defer near.Close()
	var ratios, theirs, ours []float64
	for range 5 {
		p, err := readRate(ctx, near, b.reads)
		if err != nil {
			return err
		}
		f, err := readRate(ctx, far, b.reads)
		if err != nil {
			return err
		}
		ratios, theirs, ours = append(ratios, f/p), append(theirs, p), append(ours, f)
	}
	b.Say("weak reads by key through database/sql, one at a time: %.0f a second on a follower, %.0f on the primary", figures.Quantile(ours, 0.5), figures.Quantile(theirs, 0.5))
	b.Figure("replica_read_vs_primary", figures.Quantile(ratios, 0.5), "x")
	return nil
}

func readRate(ctx context.Context, db *sql.DB, d time.Duration) (float64, error) {
	from := time.Now()
	n := 0
	for time.Since(from) < d {
		var who string
		if err := db.QueryRowContext(ctx, "select who from t where id = ?", 1+n%200).Scan(&who); err != nil {
			return 0, err
		}
		n++
	}
	return float64(n) / time.Since(from).Seconds(), nil
}
