package sqlnode

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// A site of which nobody hears anything holds deletes for ever, until it is retired. The tenant's primary does that by itself after
// Config.CRRRetireAfter, one site at a time, when all that answer say that they have heard nothing of it for as long, and they are most of the tenant's sites.
//
// Silence is measured by each node for itself, from when its connection to the other ended, or since it began to watch for that site, on a clock that
// can't be set. A node that was started anew begins anew: silence may be found too late, never too early. All sites of a tenant watch, so another primary need not begin anew.

// silenceOf asks a node how long it has heard nothing of a tenant's sites. It is JSON between nodes.
type silenceOf struct {
	Tenant string `json:"tenant"`
}

// silenceAnswer is what the node says. A node that answers is not silent itself.
type silenceAnswer struct {
	Silent []siteSilence `json:"silent"` // of all other sites that it knows
	Error  *systemError  `json:"error,omitempty"`
}

// siteSilence is for how long a node has heard nothing of a site's node; 0 while they are connected.
type siteSilence struct {
	Site   crr.SiteID `json:"site"`
	Millis int64      `json:"millis"`
}

// pathSilence is where nodes are asked.
const pathSilence = "/internal/v1/sites/silence"

// silenceAsk bounds the question to all sites.
const silenceAsk = 5 * time.Second

// silences are durations by site.
type silences map[crr.SiteID]time.Duration

// silentHere is for how long this node has heard nothing of a tenant's sites.
func (s *sites) silentHere(id tenant.ID) silences {
	out := silences{}
	if s.x == nil {
		return out
	}
	status, _ := s.x.Status(id)
	for _, p := range status.Sites {
		out[p.Site] = p.Silent
	}
	return out
}

// testimony is what is known of who has heard of whom: by node, this one's included. Nodes that gave no answer are not in it.
type testimony map[string]silences

// longSilent is the sites in use that a node has heard nothing of for so long, the longest first.
func longSilent(use []crrfiles.Site, here silences, after time.Duration) (out []crrfiles.Site) {
	for _, m := range use {
		if here[m.Site] >= after {
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, func(a, b crrfiles.Site) int {
		return int((here[b.Site] - here[a.Site]).Round(time.Second) / time.Second)
	})
	return out
}

// judgeSilence says why a site is not to be retired although this node, me, has heard nothing of it for long; "" if it is. use are the tenant's sites in use.
func judgeSilence(m crrfiles.Site, use []crrfiles.Site, me string, heard testimony, after time.Duration) string {
	if m.Node == me {
		return "it is this node's own"
	}
	if _, ok := heard[m.Node]; ok {
		return "its node answers, but not to its sites"
	}
	witnesses := 0
	var none []string
	for _, o := range use {
		said, ok := heard[o.Node]
		switch {
		case o.Site == m.Site:
		case !ok:
			none = append(none, o.Node)
		default:
			silent, known := said[m.Site]
			if !known || silent < after {
				return fmt.Sprintf("node %s has heard of it, or watches for it, for less than %v", o.Node, after)
			}
			witnesses++
		}
	}
	if 2*witnesses <= len(use) {
		return fmt.Sprintf("%d of the tenant's %d sites are reached, without it: that is not most of them; nodes %s do not answer", witnesses, len(use), strings.Join(none, ", "))
	}
	return ""
}

// askSilence asks the nodes of all sites in use whom they have heard of.
func (s *sites) askSilence(ctx context.Context, r *resident, use []crrfiles.Site) testimony {
	ctx, cancel := context.WithTimeout(ctx, silenceAsk)
	defer cancel()
	type said struct {
		node string
		of   silences
	}
	answers := make(chan said, len(use))
	asked := 0
	for _, m := range use {
		if m.Node == s.n.id.Node {
			continue
		}
		asked++
		go func() {
			var a silenceAnswer
			// A node that is gone is not waited for once for each of its tenants.
			if !s.n.answers(ctx, m.Node) || s.n.postJSON(ctx, m.Node, pathSilence, silenceOf{r.ID().String()}, &a) != nil {
				answers <- said{}
				return
			}
			of := silences{} // whoever answers at all is no dead node; of an error nothing is concluded
			for _, x := range a.Silent {
				of[x.Site] = time.Duration(x.Millis) * time.Millisecond
			}
			answers <- said{m.Node, of}
		}()
	}
	out := testimony{s.n.id.Node: s.silentHere(r.ID())}
	for range asked {
		if a := <-answers; a.of != nil {
			out[a.node] = a.of
		}
	}
	return out
}

// serveSilence answers whom this node has heard of.
func (s *sites) serveSilence(w http.ResponseWriter, r *http.Request) {
	var (
		ask silenceOf
		a   silenceAnswer
	)
	err := json.NewDecoder(io.LimitReader(r.Body, maxCall)).Decode(&ask)
	if err != nil {
		err = wire.NewError(wire.CodeBadJSON, "%w", err)
	} else {
		var id tenant.ID
		if id, err = wire.ParseTenantID(ask.Tenant); err != nil {
			err = wire.NewError(wire.CodeBadRequest, "%w", err)
		} else {
			for site, d := range s.silentHere(id) {
				a.Silent = append(a.Silent, siteSilence{site, d.Milliseconds()})
			}
		}
	}
	if err != nil {
		e := wire.AsError(err)
		a.Error = &systemError{e.Code, e.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // who asked is gone if this fails
}

// retireSilent retires a site of a tenant, led here, that nobody has heard of for long; at most one.
func (k *siteKeeper) retireSilent(ctx context.Context, r *resident, x *keptSites) error {
	after := k.s.n.cfg.CRRRetireAfter
	if after <= 0 || k.s.x == nil {
		return nil
	}
	stands := k.s.n.standsOf(r)
	use := inUse(x.all)
	here := k.s.silentHere(r.ID())
	list := slices.DeleteFunc(longSilent(use, here, after), func(m crrfiles.Site) bool { return stands(x.all, m) != holds })
	if len(list) == 0 || time.Since(x.judged) < k.judgeEvery(after) {
		return nil
	}
	x.judged = time.Now()
	// What is done for ever is decided by what is so now.
	if err := k.s.lookNow(ctx, r); err != nil {
		return err
	}
	all, err := k.s.members(ctx, r)
	if err != nil {
		return err
	}
	if use = inUse(all); !slices.ContainsFunc(use, func(m crrfiles.Site) bool { return m.Node == k.s.n.id.Node }) {
		return nil
	}
	heard := k.s.askSilence(ctx, r, use)
	for _, m := range list {
		if !slices.ContainsFunc(use, func(o crrfiles.Site) bool { return o.Site == m.Site }) {
			continue // it has been retired, or replaced, meanwhile
		}
		why := judgeSilence(m, use, k.s.n.id.Node, heard, after)
		if why == "" {
			return k.retireOne(ctx, r, m, list, heard[k.s.n.id.Node][m.Site])
		}
		if line := fmt.Sprint(m.Site, why); line != x.spared {
			x.spared = line
			k.s.n.log.Info("a silent site is not retired", "tenant", string(r.Record().Name), "id", r.ID(), "site", m.Site, "node", m.Node, "silent", here[m.Site].Round(time.Second).String(), "why", why)
		}
	}
	return nil
}

// judgeEvery is how often silent sites of a tenant are asked about.
func (*siteKeeper) judgeEvery(after time.Duration) time.Duration { return min(after/32, retireRarely) }

// retireOne retires a silent site. What any site has of it counts, but for those that are silent for as long.
func (k *siteKeeper) retireOne(ctx context.Context, r *resident, m crrfiles.Site, silent []crrfiles.Site, d time.Duration) error {
	spare := make([]crr.SiteID, 0, len(silent))
	for _, o := range silent {
		spare = append(spare, o.Site)
	}
	got, err := k.s.retireWithout(ctx, r, []retiree{{Site: m, silent: true}}, spare)
	if err != nil {
		return err
	}
	k.s.silentRetired.Add(int64(len(got)))
	for _, x := range got {
		k.s.n.log.Warn("a site that nobody hears of is retired",
			"tenant", string(r.Record().Name), "id", r.ID(), "site", x.Site, "node", x.Node, "silent", d.Round(time.Second).String(), "final", x.Final)
	}
	return nil
}
