package quickhttp

import (
	"sync"
	"time"
)

// watchAfter is how long a request lasts before its client is watched.
const watchAfter = 50 * time.Millisecond

// watch notices that the client of a request goes away. Only a request that lasts costs more than a timer.
type watch struct {
	c     *conn
	timer *time.Timer
	mu    struct {
		sync.Mutex
		on      bool          // a request is under way
		reading chan struct{} // closed when nobody reads any more; nil: nobody does
		ending  bool          // the reader is to give up
		next    []byte        // of the next request, that was read
	}
}

// begin begins to watch for a request.
func (w *watch) begin() {
	w.mu.Lock()
	w.mu.on = true
	w.mu.Unlock()
	if w.timer == nil {
		w.timer = time.AfterFunc(watchAfter, w.read)
	} else {
		w.timer.Reset(watchAfter)
	}
}

// read reads what comes while a request is under way: nothing, or the begin of the next one.
func (w *watch) read() {
	w.mu.Lock()
	if !w.mu.on || w.mu.reading != nil || len(w.mu.next) > 0 {
		w.mu.Unlock()
		return
	}
	done := make(chan struct{})
	w.mu.reading = done
	_ = w.c.net.SetReadDeadline(time.Time{}) // before end can set another
	w.mu.Unlock()
	var one [1]byte
	n, err := w.c.net.Read(one[:])
	w.mu.Lock()
	if n > 0 {
		w.mu.next = append(w.mu.next, one[0])
	}
	if err != nil && !w.mu.ending {
		w.c.cancel()
	}
	w.mu.reading = nil
	w.mu.Unlock()
	close(done)
}

// end ends it. It returns what was read of the next request.
func (w *watch) end() []byte {
	w.timer.Stop()
	w.mu.Lock()
	w.mu.on = false
	done := w.mu.reading
	w.mu.ending = done != nil
	w.mu.Unlock()
	if done != nil {
		_ = w.c.net.SetReadDeadline(time.Unix(1, 0))
		<-done
		_ = w.c.net.SetReadDeadline(time.Time{})
		w.c.bounded = false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	next := w.mu.next
	w.mu.next, w.mu.ending = nil, false
	return next
}
