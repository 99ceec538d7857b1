package leader_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/disk/disktest"
)

// A snapshot may take the newest entry out of the log, which is no command after a start:
// a read must not wait for it.
func TestReadIndexAfterSnapshotOfNoCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := disktest.NewMemFS()
		l := start(t, config(m, &list{}))
		l.primary()
		if _, err := l.propose("x"); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			l.end(t)
			l = start(t, config(m, &list{}))
			l.primary()
			must(t, l.Snapshot())
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			index, err := l.ReadIndex(ctx)
			must(t, err)
			if err := l.WaitApplied(ctx, index); err != nil {
				t.Fatalf("waiting for index %d, applied is %d: %v", index, l.Applied(), err)
			}
			cancel()
		}
		l.end(t)
	})
}
