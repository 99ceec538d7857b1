package copies

import (
	"testing"

	"pgregory.net/rapid"
)

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		f    Facts
		want Action
	}{
		{Facts{Fault: Hollow}, Leave},
		{Facts{Fault: Failed}, Leave},
		{Facts{Fault: Rotten}, Leave},
		{Facts{Fault: Diverged, Voters: 1}, Leave},
		{Facts{Fault: Hollow, Others: 1}, Fetch},
		{Facts{Fault: Failed, Others: 1}, Fetch},
		{Facts{Fault: Failed, Others: 2, Primary: true}, Fetch},
		{Facts{Fault: Rotten, Others: 2}, Leave},
		{Facts{Fault: Rotten, Others: 2, Sound: 1}, TakeOut},
		{Facts{Fault: Rotten, Others: 2, Sound: 1, Primary: true, Heirs: 1}, HandOn},
		{Facts{Fault: Rotten, Others: 2, Sound: 2, Primary: true}, Leave}, // only learners
		{Facts{Fault: Rotten, Others: 2, Primary: true}, Leave},
		{Facts{Fault: Diverged, Others: 2, Voters: 3}, Hold},
		{Facts{Fault: Diverged, Others: 2, Voters: 3, Agree: 1}, Hold},
		{Facts{Fault: Diverged, Others: 2, Voters: 3, Agree: 2}, Fetch},
		{Facts{Fault: Diverged, Others: 4, Voters: 5, Agree: 2}, Hold},
		{Facts{Fault: Diverged, Others: 4, Voters: 5, Agree: 3}, Fetch},
		{Facts{Fault: Diverged, Others: 1, Voters: 2, Agree: 1}, Hold},
		{Facts{Fault: Diverged, Others: 1, Voters: 1, Agree: 1}, Fetch}, // a learner's
	} {
		if got := Decide(c.f); got != c.want {
			t.Errorf("%+v: %s, want %s", c.f, got, c.want)
		}
	}
}

// TestDecideHolds states what no facts may lead to.
func TestDecideHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := Facts{
			Fault:   Fault(rapid.IntRange(int(Hollow), int(Rotten)).Draw(t, "fault")),
			Others:  rapid.IntRange(0, 5).Draw(t, "others"),
			Primary: rapid.Bool().Draw(t, "primary"),
		}
		f.Sound = rapid.IntRange(0, f.Others).Draw(t, "sound")
		f.Heirs = rapid.IntRange(0, f.Others).Draw(t, "heirs")
		f.Agree = rapid.IntRange(0, f.Sound).Draw(t, "agree")
		f.Voters = rapid.IntRange(f.Agree, f.Others+1).Draw(t, "voters")
		a := Decide(f)
		switch {
		case f.Others == 0 && a != Leave:
			t.Fatalf("%+v: alone, %s", f, a)
		case f.Fault == Rotten && (f.Sound == 0 || f.Primary) && (a == TakeOut || a == Fetch):
			t.Fatalf("%+v: a copy in service: %s", f, a)
		case f.Fault == Diverged && f.Agree*2 <= f.Voters && a == Fetch:
			t.Fatalf("%+v: rebuilt without a majority", f)
		case f.Fault != Rotten && (a == TakeOut || a == HandOn):
			t.Fatalf("%+v: it is out of service: %s", f, a)
		}
	})
}
