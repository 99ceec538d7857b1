package leader

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// refusing is a Machine that must not be touched.
type refusing struct{ t *testing.T }

func (m refusing) Apply(uint64, uint64, []byte) any {
	m.t.Error("applied")
	return nil
}

func (m refusing) Snapshot() (SnapshotWriter, error) {
	m.t.Error("captured")
	return nil, nil
}

func (m refusing) Restore(io.Reader) error {
	m.t.Error("restored")
	return nil
}

// What raft says after the log failed may rest on nothing.
func TestNothingReachesTheMachineOnceTheLogFailed(t *testing.T) {
	f := &fsm{machine: refusing{t}, seen: func() uint64 { return 0 }, await: func(uint64) {}, failed: func() bool { return true }}
	if _, ok := f.Apply(&raft.Log{Index: 1, Type: raft.LogCommand}).(gone); !ok {
		t.Error("the entry was answered as if it had been applied")
	}
	if f.applied() != 0 {
		t.Error("the entry counts as applied")
	}
	if _, err := f.Snapshot(); !errors.Is(err, ErrStopped) {
		t.Errorf("snapshot: %v", err)
	}
	if err := f.Restore(io.NopCloser(strings.NewReader("\x01\x07\x00\x00\x00\x00\x00\x00\x00"))); !errors.Is(err, ErrStopped) {
		t.Errorf("restore: %v", err)
	}
}

func TestOutcomes(t *testing.T) {
	g := &Group{}
	for err, notPrimary := range map[error]bool{
		raft.ErrNotLeader: true, raft.ErrEnqueueTimeout: true, raft.ErrLeadershipTransferInProgress: true,
		raft.ErrLeadershipLost: false, raft.ErrRaftShutdown: false, errors.New("disk"): false,
	} {
		got := g.outcome(err)
		if errors.As(got, new(*NotPrimaryError)) != notPrimary || errors.As(got, new(*UnknownOutcomeError)) == notPrimary {
			t.Errorf("%v became %v", err, got)
		}
	}
}
