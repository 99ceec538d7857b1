package pagestore

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestScrubPace reads no faster than it may, and stops when it is told to.
func TestScrubPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pacer{rate: 8 << 20}
		defer p.stop()
		began := time.Now()
		for range 80 << 20 / 4096 {
			must(t, p.wait(t.Context(), 4096))
		}
		if took := time.Since(began); took < 9900*time.Millisecond || took > 11*time.Second {
			t.Errorf("80 MiB at 8 MiB/s took %s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		var err error
		for err == nil {
			err = p.wait(ctx, 65536)
		}
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 1100*time.Millisecond {
			t.Errorf("it ended after %s: %v", time.Since(began), err)
		}
	})
}
