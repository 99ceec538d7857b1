package tenant

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestHolds(t *testing.T) {
	for _, c := range []struct {
		p           Placement
		pop, region string
		holds       bool
		allows      bool
	}{
		{Placement{}, "ams", "eu", false, true},
		{Placement{Replicas: "none"}, "ams", "eu", false, true},
		{Placement{Replicas: "on-demand"}, "ams", "eu", false, true},
		{Placement{Replicas: "all"}, "ams", "eu", true, true},
		{Placement{Replicas: "all"}, "", "", true, true},
		{Placement{Replicas: "pop:ams"}, "ams", "eu", true, true},
		{Placement{Replicas: "pop:ams"}, "fra", "eu", false, true},
		{Placement{Replicas: "pop:ams"}, "am", "eu", false, true},
		{Placement{Replicas: "pop:ams"}, "fra", "ams", false, true}, // a region is no PoP
		{Placement{Replicas: "region:eu"}, "eu", "us", false, true}, // nor the other way around
		{Placement{Replicas: "region:eu"}, "fra", "eu", true, true},
		{Placement{Replicas: "pop:nrt,region:eu"}, "nrt", "ap", true, true},
		{Placement{Replicas: "pop:nrt,region:eu"}, "ams", "eu", true, true},
		{Placement{Replicas: "pop:nrt,region:eu"}, "iad", "us", false, true},
		{Placement{Replicas: "pop:nrt"}, "", "", false, true},
		{Placement{Jurisdiction: "eu", Replicas: "all"}, "ams", "eu", true, true},
		{Placement{Jurisdiction: "eu", Replicas: "all"}, "iad", "us", false, false},
		{Placement{Jurisdiction: "eu", Replicas: "all"}, "x", "", false, false}, // a node that does not say where it is
		{Placement{Jurisdiction: "eu", Replicas: "pop:iad,region:us"}, "iad", "us", false, false},
		{Placement{Jurisdiction: "eu", Replicas: "none"}, "ams", "eu", false, true},
		{Placement{Replicas: "pop:"}, "", "", false, true}, // which no spec is
		{Placement{Replicas: "sometimes"}, "sometimes", "sometimes", false, true},
	} {
		if got := c.p.Holds(c.pop, c.region); got != c.holds {
			t.Errorf("%+v in %s, %s: holds %v", c.p, c.pop, c.region, got)
		}
		if got := c.p.Allows(c.region); got != c.allows {
			t.Errorf("%+v in %s: allows %v", c.p, c.region, got)
		}
	}
}

// TestHoldsOnlyWhereAllowed: whatever is asked for, no copy is to be outside a jurisdiction, and where one is to be the
// spec has standing replicas.
func TestHoldsOnlyWhereAllowed(t *testing.T) {
	label := rapid.SampledFrom([]string{"a", "b", "c"})
	term := rapid.Custom(func(rt *rapid.T) string {
		return rapid.SampledFrom([]string{"pop:", "region:"}).Draw(rt, "kind") + label.Draw(rt, "label")
	})
	rapid.Check(t, func(rt *rapid.T) {
		spec := rapid.SampledFrom([]string{"", "none", "all", "on-demand"}).Draw(rt, "word")
		terms := rapid.SliceOfNDistinct(term, 0, 5, rapid.ID).Draw(rt, "terms")
		if len(terms) > 0 {
			spec = strings.Join(terms, ",")
		}
		p := Placement{Replicas: Replicas(spec), Jurisdiction: rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "jurisdiction")}
		if err := p.Validate(); err != nil {
			rt.Fatal(err)
		}
		pop, region := label.Draw(rt, "pop"), label.Draw(rt, "region")
		named := spec == "all"
		for _, term := range terms {
			named = named || term == "pop:"+pop || term == "region:"+region
		}
		want := named && (p.Jurisdiction == "" || p.Jurisdiction == region)
		if got := p.Holds(pop, region); got != want || got && !(p.Standing() && p.Allows(region)) {
			rt.Fatalf("%+v in %s, %s: holds %v, want %v", p, pop, region, got, want)
		}
		if p.Standing() != (spec == "all" || len(terms) > 0) {
			rt.Fatalf("%+v: standing %v", p, p.Standing())
		}
	})
}

func TestCreatePlaced(t *testing.T) {
	got, err := New(ID{1}, "acme", CreateOptions{Replicas: "region:eu", Jurisdiction: "eu"}, 2, time.Now())
	if err != nil || got.Placement != (Placement{Jurisdiction: "eu", Replicas: "region:eu"}) || got.Policy != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	for field, o := range map[string]CreateOptions{"replicas": {Replicas: "everywhere"}, "jurisdiction": {Jurisdiction: "E U"}} {
		if _, err := New(ID{1}, "acme", o, 2, time.Now()); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}
