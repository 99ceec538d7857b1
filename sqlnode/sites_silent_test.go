package sqlnode

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
)

// silentWorld is an awayWorld whose nodes retire sites that are silent for retireSoon.
func newSilentWorld(t *testing.T) *awayWorld {
	return newAwayWorldWith(t, func(cfg *Config) { cfg.CRRRetireAfter = retireSoon })
}

const retireSoon = 10 * time.Minute

// state is a site's, as main says at a node.
func (w *awayWorld) state(id string, site crr.SiteID) (m crrfiles.Site) {
	w.t.Helper()
	n := w.node(id)
	r, err := n.locate(w.t.Context(), "acme")
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := n.sites.members(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, x := range all {
		if x.Site == site {
			m = x
		}
	}
	return m
}

func (w *awayWorld) retired() (n int64) {
	for _, x := range w.up() {
		n += x.sites.silentRetired.Load()
	}
	return n
}

// primary is the node that leads the tenant's group.
func (w *awayWorld) primary(among ...string) (id string) {
	w.t.Helper()
	w.await(time.Minute, func() string {
		for _, x := range among {
			if r, err := w.node(x).locate(w.t.Context(), "acme"); err == nil && r.h != nil && r.h.log().Primary() == nil {
				id = x
				return ""
			}
		}
		return "nobody leads"
	})
	return id
}

// A site is cut off with writes that nobody has. Nobody asks for it: it is retired when its time has come and not before, also when wall clocks are set
// and when the primary is started anew; deletes are forgotten then. It comes back, and all that it wrote reaches all, once.
func TestSilentSiteIsRetired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSilentWorld(t)
		was := w.head("n3").Site
		w.cut("n3")
		w.try("n3", "update crr.likes set n = n + 10 where post = 'x'")
		w.try("n3", "insert into crr.likes values('mine', 7, 'only n3')")
		w.try("n3", "delete from crr.likes where post = 'drop'")
		w.try("n1", "delete from crr.likes where post = 'gone'")
		w.skew.Store(int64(30 * 24 * time.Hour)) // all clocks are set
		time.Sleep(retireSoon * 3 / 4)
		if st := w.state("n1", was).State; st != crr.Active {
			t.Fatalf("site %d is %v before its time", was, st)
		}
		lead := w.primary("n1", "n2")
		if err := w.halt(lead); err != nil && !strings.Contains(err.Error(), "canceled") {
			t.Fatal(err)
		}
		w.start(lead)
		w.await(time.Minute, func() string { return ready(w.node(lead)) })
		w.try("n2", "update crr.likes set n = n + 100, title = 'second' where post = 'x'")
		time.Sleep(retireSoon * 3 / 4)
		if st := w.state("n2", was).State; st != crr.Active {
			t.Fatalf("site %d is %v, and a node has watched for less than %v", was, st, retireSoon)
		}
		time.Sleep(retireSoon / 2)
		if m := w.state("n1", was); m.State != crr.Retired || w.retired() != 1 {
			t.Fatalf("site %d is %v after its time; %d were retired", was, m.State, w.retired())
		}
		w.await(5*time.Minute, func() string {
			for _, id := range []string{"n1", "n2"} {
				if w.node(id).sites.files.Stats.Tombstones.Load() == 0 {
					return id + " has collected nothing"
				}
			}
			return ""
		})
		w.net.HealAll()
		w.settled("n3", was)
		w.same(`[["mine",7,"only n3"],["x",114,"second"]]`, "n1", "n2", "n3")
		w.try("n3", "update crr.likes set n = n + 1 where post = 'x'")
		w.same(`[["mine",7,"only n3"],["x",115,"second"]]`, "n1", "n2", "n3")
		time.Sleep(2 * retireSoon) // whoever is there is not retired
		if w.retired() != 1 {
			t.Errorf("%d sites were retired", w.retired())
		}
	})
}

// A site that another node hears of is not retired, and crr status tells for how long this one has not.
func TestSiteThatAnotherHearsIsNotRetired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSilentWorld(t)
		was := w.head("n3").Site
		lead := w.primary("n1", "n2", "n3")
		other := map[string]string{"n1": "n3", "n2": "n3", "n3": "n2"}[lead]
		site := w.head(other).Site
		w.net.CutBoth(lead, other)
		time.Sleep(3 * retireSoon)
		if m := w.state(lead, site); m.State != crr.Active || w.retired() != 0 {
			t.Errorf("site %d is %v; %d were retired", site, m.State, w.retired())
		}
		status, text := w.node(lead).do("GET", "/v1/tenants/acme/crr", "")
		if status != 200 || !strings.Contains(text, `"silent_ms":17`) && !strings.Contains(text, `"silent_ms":18`) { // of 1 800 000
			t.Errorf("the status does not tell: %d %s", status, text)
		}
		w.net.HealAll()
		w.try(other, "update crr.likes set n = n + 1 where post = 'x'")
		w.same(`[["drop",1,null],["gone",1,null],["x",5,"first"]]`, "n1", "n2", "n3")
		if now := w.head("n3").Site; now != was {
			t.Errorf("n3 is site %d, and was %d", now, was)
		}
	})
}

// Which silent sites are retired.
func TestJudgeSilence(t *testing.T) {
	const h = time.Hour
	site := func(n crr.SiteID, node string) crrfiles.Site {
		return crrfiles.Site{Member: crr.Member{Site: n, State: crr.Active}, Node: node}
	}
	five := []crrfiles.Site{site(1, "a"), site(2, "b"), site(3, "c"), site(4, "d"), site(5, "e")}
	long := silences{1: 0, 2: 0, 3: 0, 4: 9 * h, 5: 8 * h}
	for name, c := range map[string]struct {
		use   []crrfiles.Site
		which int
		heard testimony
		want  string
	}{
		"nobody hears it":                    {five, 4, testimony{"a": long, "b": long, "c": long, "d": long}, ""},
		"two are silent":                     {five, 4, testimony{"a": long, "b": long, "c": long}, ""},
		"three are silent":                   {five, 4, testimony{"a": long, "b": long}, "not most"},
		"this node is cut off":               {five, 4, testimony{"a": long}, "not most"},
		"another hears it":                   {five, 4, testimony{"a": long, "b": long, "c": {5: 0}, "d": long}, "node c"},
		"another has heard it since":         {five, 4, testimony{"a": long, "b": long, "c": {5: 6 * h}}, "node c"},
		"another does not know it":           {five, 4, testimony{"a": long, "b": long, "c": {}}, "node c"},
		"it answers":                         {five, 4, testimony{"a": long, "b": long, "c": long, "e": {}}, "answers"},
		"this node hears it after all":       {five, 4, testimony{"a": {5: 0}, "b": long, "c": long}, "node a"},
		"this node's own":                    {five, 0, testimony{"a": {1: 9 * h}, "b": {1: 9 * h}, "c": {1: 9 * h}}, "own"},
		"one of two":                         {five[:2], 1, testimony{"a": {2: 9 * h}}, "not most"},
		"one of three":                       {five[:3], 2, testimony{"a": {3: 9 * h}, "b": {3: 9 * h}}, ""},
		"one of three, and one not reached":  {five[:3], 2, testimony{"a": {3: 9 * h}}, "not most"},
		"half of four":                       {five[:4], 3, testimony{"a": long, "b": long}, "not most"},
		"one of four":                        {five[:4], 3, testimony{"a": long, "b": long, "c": long}, ""},
		"one of four, of which one is quiet": {five[:4], 3, testimony{"b": long, "c": long, "a": long}, ""},
	} {
		got := judgeSilence(c.use[c.which], c.use, "a", c.heard, 7*h)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := fmt.Sprint(longSilent(five, long, 7*h)); got != fmt.Sprint([]crrfiles.Site{five[3], five[4]}) {
		t.Errorf("silent are %s", got)
	}
}
