package tenant

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write golden files that are missing")

var start = time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)

func sample(t testing.TB) Tenant {
	t.Helper()
	r, err := New(ID{0: 0x0a, 15: 0xff}, "acme", CreateOptions{}, 2, start)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// goldens are the events of testdata, by file name. Never change one; add.
func goldens(t testing.TB) map[string]Event {
	plain := sample(t)
	full := plain
	full.Limits = DefaultLimits()
	full.Placement = Placement{Jurisdiction: "eu", Replicas: "pop:fra,region:us"}
	return map[string]Event{
		"created":           Created{plain},
		"created_full":      Created{full},
		"deleted":           Deleted{start},
		"undeleted":         Undeleted{start, "acme-2"},
		"renamed":           Renamed{start, "acme-3"},
		"frozen":            Frozen{start},
		"thawed":            Thawed{start},
		"limits_changed":    LimitsChanged{start, Limits{Size: 1 << 30, StatementTime: Duration(5 * time.Second)}},
		"placement_changed": PlacementChanged{start, 2, Placement{Replicas: ReplicasAll}},
		"purged":            Purged{start},
		"epoch_raised":      EpochRaised{start, 2},
	}
}

func TestGoldenEvents(t *testing.T) {
	for name, e := range goldens(t) {
		got, err := EncodeEvent(e)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		file := filepath.Join("testdata", fmt.Sprintf("event_v%d_%s.bin", e.Code().version(), name))
		want, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) && *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
			want = got
		} else if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		back, err := DecodeEvent(e.Code(), want)
		if err != nil || back != e {
			t.Errorf("%s: got %+v, %v, want %+v", name, back, err, e)
		}
	}
}

func TestEncodeEventNormalisesTimes(t *testing.T) {
	at := time.Date(2026, 1, 2, 4, 4, 5, 678_999_999, time.FixedZone("x", 3600))
	b, err := EncodeEvent(Frozen{at})
	if err != nil {
		t.Fatal(err)
	}
	if want := "\x01" + `{"time":"2026-01-02T03:04:05.678Z"}`; string(b) != want {
		t.Errorf("got %q, want %q", b, want)
	}
}

func TestEncodeEventRefuses(t *testing.T) {
	for _, e := range []Event{
		nil, Created{}, Deleted{}, Renamed{start, "system"}, Renamed{start, "Bad"}, Renamed{Name: "a"},
		LimitsChanged{start, Limits{Readers: -1}}, Frozen{time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)},
		PlacementChanged{start, 2, Placement{Replicas: "moon"}}, EpochRaised{start, 1}, EpochRaised{Epoch: 2},
	} {
		if b, err := EncodeEvent(e); err == nil {
			t.Errorf("%+v was written as %q", e, b)
		}
	}
}

func TestDecodeEventRefuses(t *testing.T) {
	for _, c := range []struct {
		code    Code
		payload string
		want    string
	}{
		{0, "\x01{}", "code is unknown"},
		{99, "\x01{}", "code is unknown"},
		{CodeFrozen, "", "is empty"},
		{CodeFrozen, "\x01", "EOF"},
		{CodeFrozen, "\x01{}", "has no time"},
		{CodeFrozen, "\x01" + `{"time":"2026-01-02T03:04:05.678Z","x":1}`, `unknown field "x"`},
		{CodeFrozen, "\x01" + `{"time":"2026-01-02T03:04:05.678Z"} `, "one form"},
		{CodeFrozen, "\x01" + `{"time":"2026-01-02T03:04:05.678Z"}{}`, "follows"},
		{CodeFrozen, "\x01" + `{"time":"2026-01-02T03:04:05.678+00:00"}`, ""},
		{CodeFrozen, "\x01" + `{"time":"2026-01-02T03:04:05.6789Z"}`, "whole milliseconds"},
		{CodeFrozen, "\x01" + `{"Time":"2026-01-02T03:04:05.678Z"}`, "one form"},
		{CodeRenamed, "\x01" + `{"time":"2026-01-02T03:04:05.678Z","name":"A"}`, "upper-case"},
		{CodeFrozen, "\x01{\"time\":\"\xff\"}", "UTF-8"},
		{CodeFrozen, "\x01" + strings.Repeat(" ", MaxEventSize), "more than"},
	} {
		e, err := DecodeEvent(c.code, []byte(c.payload))
		var fe *EventFormatError
		if !errors.As(err, &fe) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d %.80q: got %+v, %v, want %q", c.code, c.payload, e, err, c.want)
		}
	}
	for code, found := range map[Code]byte{CodeFrozen: 2, CodeEpochRaised: 1} {
		_, err := DecodeEvent(code, []byte{found, '{', '}'})
		var ve *EventVersionError
		if !errors.As(err, &ve) || ve.Found != found {
			t.Errorf("%s: got %v, want an error of version %d", code, err, found)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	for _, e := range goldens(f) {
		b, err := EncodeEvent(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint16(e.Code()), b)
	}
	f.Fuzz(func(t *testing.T, code uint16, b []byte) {
		e, err := DecodeEvent(Code(code), b)
		if err != nil {
			return
		}
		again, err := EncodeEvent(e)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q decodes to %+v, which encodes to %q, %v", b, e, again, err)
		}
		if e.Code() != Code(code) {
			t.Fatalf("code %d decodes to %T", code, e)
		}
		// Whatever can be read can be applied, or is refused, in every state.
		r := sample(t)
		for _, state := range []State{0, StateActive, StateFrozen, StateDeleted} {
			r.State, r.Deleted = state, time.Time{}
			if state == 0 {
				r = Tenant{}
			} else if state == StateDeleted {
				r.Deleted = start
			}
			if after, err := r.Apply(e); err == nil && after.Validate() != nil {
				t.Fatalf("%+v after %+v is not valid: %v", r, e, after.Validate())
			}
			r = sample(t)
		}
	})
}

func TestLife(t *testing.T) {
	born := sample(t)
	in := func(s State) Tenant {
		r := born
		if s == 0 {
			return Tenant{}
		}
		r.State = s
		if s == StateDeleted {
			r.Deleted = start
		}
		return r
	}
	events := []Event{
		Created{born}, Deleted{start}, Undeleted{start, "b"}, Renamed{start, "b"},
		Frozen{start}, Thawed{start}, LimitsChanged{start, Limits{Readers: 1}}, PlacementChanged{start, 2, Placement{}}, Purged{start}, EpochRaised{start, 2},
	}
	// What each event makes of each state; 0 means refused.
	want := map[State][]State{
		0:            {StateActive, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		StateActive:  {0, StateDeleted, 0, StateActive, StateFrozen, 0, StateActive, StateActive, 0, StateActive},
		StateFrozen:  {0, StateDeleted, 0, StateFrozen, 0, StateActive, StateFrozen, StateFrozen, 0, StateFrozen},
		StateDeleted: {0, 0, StateActive, 0, 0, 0, 0, 0, StateDeleted, StateDeleted},
	}
	for from, row := range want {
		for i, e := range events {
			before := in(from)
			after, err := before.Apply(e)
			if row[i] == 0 {
				var refused *EventRefusedError
				if !errors.As(err, &refused) || refused.Event != e.Code() || after != before {
					t.Errorf("%s in state %s: got %+v, %v, want a refusal", e.Code(), from, after, err)
				}
				continue
			}
			if err != nil || after.State != row[i] {
				t.Errorf("%s in state %s: got %s, %v, want %s", e.Code(), from, after.State, err, row[i])
			}
		}
	}
	if _, err := born.Apply(PlacementChanged{start, 3, Placement{}}); err == nil {
		t.Error("a policy number was jumped over")
	}
	for _, e := range []EpochRaised{{start, 3}, {start, 1}, {start, 0}} {
		if _, err := born.Apply(e); err == nil {
			t.Errorf("epoch %d followed 1", e.Epoch)
		}
	}
	if after, err := born.Apply(EpochRaised{start, 2}); err != nil || after.Epoch != 2 {
		t.Errorf("epoch %d, %v", after.Epoch, err)
	}
	if _, err := born.Apply(nil); err == nil {
		t.Error("no event was applied")
	}
}

func TestSystemStays(t *testing.T) {
	sys, err := New(SystemID(), SystemName, CreateOptions{}, 1, start)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Tenant{}).Apply(Created{sys}); err != nil {
		t.Error(err)
	}
	for _, e := range []Event{Deleted{start}, Renamed{start, "b"}, Frozen{start}} {
		if _, err := sys.Apply(e); err == nil {
			t.Errorf("the system tenant was %s", e.Code())
		}
	}
	if _, err := New(ID{1}, SystemName, CreateOptions{}, 1, start); err == nil {
		t.Error("another tenant is named system")
	}
}

func TestTenantJSON(t *testing.T) {
	r := sample(t)
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"0a0000000000000000000000000000ff","name":"acme","group":2,"epoch":1,"state":"active","page_size":4096,` +
		`"created":"2026-01-02T03:04:05.678Z","limits":{},"policy":1,"placement":{}}`
	if string(b) != want {
		t.Fatalf("got  %s\nwant %s", b, want)
	}
	var back Tenant
	newer := strings.Replace(string(b), `"policy":1`, `"policy":1,"colour":"blue"`, 1)
	if err := json.Unmarshal([]byte(newer), &back); err != nil || back != r {
		t.Fatalf("got %+v, %v", back, err)
	}
}

func TestPageSizes(t *testing.T) {
	for _, n := range []uint32{512, 1024, 4096, 65536} {
		if err := CheckPageSize(n); err != nil {
			t.Error(err)
		}
	}
	for _, n := range []uint32{0, 1, 256, 1000, 4097, 131072} {
		if CheckPageSize(n) == nil {
			t.Errorf("%d is a page size", n)
		}
	}
}

func TestParseReplicas(t *testing.T) {
	for _, ok := range []string{"", "none", "all", "on-demand", "pop:fra", "pop:fra,region:eu-west"} {
		if _, err := ParseReplicas(ok); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"some", "pop:", "pop:Fra", "pop:fra,", "pop:fra,pop:fra", "all,pop:fra", "zone:x", strings.Repeat("pop:a,", 100)} {
		if _, err := ParseReplicas(bad); err == nil {
			t.Errorf("%q is a spec", bad)
		}
	}
}
