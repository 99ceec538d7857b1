package readpath

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestChooseWay(t *testing.T) {
	const ms = time.Millisecond
	now := time.Unix(1e9, 0)
	of := func(recent, ago time.Duration) WayTime { return WayTime{Recent: recent, At: now.Add(-ago)} }
	failed := func(ago time.Duration) WayTime { return WayTime{At: now.Add(-ago), Failed: true} }
	both := func(last Way, index, voter WayTime) WayFacts {
		return WayFacts{Askable: true, Elsewhere: true, Last: last, Index: index, Voter: voter, Now: now}
	}
	tests := []struct {
		name  string
		facts WayFacts
		want  string // way, its limit, and what is measured
	}{
		{"nothing is known", both(0, WayTime{}, WayTime{}), "forward 0s, measure index and forward"},
		{"nothing is known but of the index", both(0, of(20*ms, 0), WayTime{}), "index 100ms, measure forward"},
		{"nothing is known but of the voter", both(0, WayTime{}, of(20*ms, 0)), "forward 0s, measure index"},
		{"both are known", both(0, of(20*ms, 0), of(30*ms, 0)), "index 100ms"},
		{"both are known, the other is quicker", both(0, of(31*ms, 0), of(30*ms, 0)), "forward 0s"},
		{"both are known and alike", both(0, of(30*ms, 0), of(30*ms, 0)), "index 120ms"},

		{"index was taken and the voter is not much quicker", both(ByIndex, of(100*ms, 0), of(80*ms, 0)), "index 400ms"},
		{"index was taken and the voter is quicker", both(ByIndex, of(100*ms, 0), of(79*ms, 0)), "forward 0s"},
		{"the voter was taken and the index is not much quicker", both(ByVoter, of(80*ms, 0), of(100*ms, 0)), "forward 0s"},
		{"the voter was taken and the index is quicker", both(ByVoter, of(79*ms, 0), of(100*ms, 0)), "index 316ms"},
		{"a millisecond is nothing", both(ByIndex, of(ms, 0), of(ms/10, 0)), "index 100ms"},

		{"the voter was measured a while ago", both(ByIndex, of(ms, 0), of(9*ms, 999*ms)), "index 100ms"},
		{"the voter was measured long ago", both(ByIndex, of(ms, time.Hour), of(9*ms, time.Second)), "index 100ms, measure forward"},
		{"forwarding is not timed by itself", both(ByVoter, of(9*ms, 999*ms), of(ms, time.Second)), "forward 0s, measure forward"},
		{"the index was measured long ago", both(ByVoter, of(9*ms, time.Second), of(ms, 0)), "forward 0s, measure index"},

		{"the index failed", both(ByIndex, failed(0), of(time.Second, 0)), "forward 0s"},
		{"the index failed a while ago", both(ByVoter, failed(time.Second), of(time.Second, 0)), "forward 0s, measure index"},
		{"the index failed and nothing else is known", both(ByIndex, failed(0), WayTime{}), "forward 0s, measure forward"},
		{"the voter failed", both(ByVoter, of(time.Second, 0), failed(0)), "index 2s"},
		{"the voter failed and nothing else is known", both(ByVoter, WayTime{}, failed(0)), "index 500ms"},
		{"both failed", both(ByVoter, failed(0), failed(0)), "index 500ms"},

		{"the copy can't ask", WayFacts{Elsewhere: true, Last: ByIndex, Index: of(ms, 0), Voter: failed(time.Hour), Now: now}, "forward 0s, only"},
		{"it can't, and no voter is known", WayFacts{Now: now}, "forward 0s, only"},
		{"no voter is known", WayFacts{Askable: true, Index: failed(time.Hour), Now: now}, "index 3s, only"},
		{"fails on stale", WayFacts{Askable: true, Elsewhere: true, OnStale: StaleFails, Last: ByVoter, Index: of(time.Second, 0), Voter: of(ms, 0), Now: now}, "index 3s, only"},
		{"fails on stale, quick", WayFacts{Askable: true, Elsewhere: true, OnStale: StaleFails, Index: of(ms, 0), Now: now}, "index 500ms, only"},
		{"fails on stale, can't ask", WayFacts{Elsewhere: true, OnStale: StaleFails, Now: now}, "index 3s, only"},
		{"fails on stale, has little time", WayFacts{Elsewhere: true, OnStale: StaleFails, Now: now, Time: time.Second}, "index 1s, only"},
		{"has little time", WayFacts{Askable: true, Elsewhere: true, Index: of(time.Second, 0), Now: now, Time: time.Second, Voter: failed(0)}, "index 500ms"},
	}
	for _, tt := range tests {
		c := ChooseWay(&tt.facts)
		got := fmt.Sprintf("%v %v", c.Way, c.Limit)
		switch {
		case c.MeasureIndex && c.MeasureVoter:
			got += ", measure index and forward"
		case c.MeasureIndex:
			got += ", measure index"
		case c.MeasureVoter:
			got += ", measure forward"
		}
		if c.Only {
			got += ", only"
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// However far two ways were apart, the choice follows when they change places, within eight measures a second apart of each; and a single measure that is out of
// all proportion changes nothing, where the ways differ by half of what they take.
func TestWayFollows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		near := time.Duration(rapid.Int64Range(int64(5*time.Millisecond), int64(100*time.Millisecond)).Draw(t, "near"))
		far := near*3/2 + time.Duration(rapid.Int64Range(int64(5*time.Millisecond), int64(2*time.Second)).Draw(t, "far"))
		now := time.Unix(1e9, 0)
		f := WayFacts{Askable: true, Elsewhere: true, Last: Way(rapid.IntRange(0, 2).Draw(t, "last"))}
		step := func(index, voter time.Duration) Way {
			now = now.Add(time.Second)
			f.Index, f.Voter, f.Now = f.Index.Took(index, now), f.Voter.Took(voter, now), now
			f.Last = ChooseWay(&f).Way
			return f.Last
		}
		settle := func(index, voter time.Duration, want Way) {
			for range 8 {
				step(index, voter)
			}
			if f.Last != want {
				t.Fatalf("%v where the index takes %v and a voter %v; %+v", f.Last, index, voter, f)
			}
			for range 8 {
				if got := step(index, voter); got != want {
					t.Fatalf("changes to %v", got)
				}
			}
		}
		settle(near, far, ByIndex)
		settle(far, near, ByVoter)
		settle(near, far, ByIndex)
		settle(20*time.Millisecond, 40*time.Millisecond, ByIndex)
		for range 6 {
			step(20*time.Millisecond, 40*time.Millisecond)
		}
		now = now.Add(50 * time.Millisecond) // reads by index measure themselves, each
		f.Index, f.Now = f.Index.Took(time.Hour, now), now
		if got := ChooseWay(&f).Way; got != ByIndex {
			t.Fatalf("%v after one measure of an hour; %+v", got, f)
		}
	})
}

func TestWayTimeAfterPause(t *testing.T) {
	now := time.Unix(1e9, 0)
	w := WayTime{}.Took(time.Second, now)
	if got := w.Took(3*time.Second, now.Add(wayForgets)).Recent; got != 3*time.Second {
		t.Errorf("what was measured a minute ago counts: %v", got)
	}
	if got := w.Missed(now).Took(9*time.Second, now.Add(1)).Recent; got != 9*time.Second {
		t.Errorf("what was measured before the way failed counts: %v", got)
	}
	if w = w.Missed(now.Add(5)); !w.Failed || !w.At.Equal(now.Add(5)) || w.Recent != time.Second {
		t.Errorf("missed: %+v", w)
	}
}
