package leader

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/nearsql/nearsql/leader/logstore"
)

func TestDecodeExpelled(t *testing.T) {
	got, err := decodeExpelled([]byte("\x01n1\nn2"))
	if err != nil || !slices.Equal(slices.Sorted(maps.Keys(got)), []NodeID{"n1", "n2"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := decodeExpelled(nil); err != nil || len(got) != 0 {
		t.Errorf("of nothing: %v, %v", got, err)
	}
	if _, err := decodeExpelled([]byte("\x02n1")); !errors.Is(err, logstore.ErrCorrupt) {
		t.Errorf("version 2: %v", err)
	}
}

func FuzzDecodeExpelled(f *testing.F) {
	f.Add([]byte("\x01n1\nn2"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := decodeExpelled(b); (err != nil) != (len(b) > 0 && b[0] != expelledVersion) || err == nil && len(b) > 1 && len(got) == 0 {
			t.Fatalf("%q: %v, %v", b, got, err)
		}
	})
}
