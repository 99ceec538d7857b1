package clustertest

import (
	"io"
	"os"
	"syscall"
	"time"
)

// errReset is what the end of a broken connection sees.
var errReset error = os.NewSyscallError("read", syscall.ECONNRESET)

// half is one direction of a connection. All of it is guarded by Network.mu.
type half struct {
	net  *Network
	link *link
	pair *pair

	flying  []segment // on the way, in order
	arrived []byte    // at the reader's, not read
	end     error     // that has arrived: io.EOF or errReset; nothing comes after it
	size    int       // invariant: bytes in flying and arrived
	gone    bool      // the reader is; what still comes is dropped
	writing bool      // a Write is under way; others wait for it, so that writes are not mixed

	changed signal
}

// segment is bytes or the end, and when they arrive.
type segment struct {
	due  time.Time
	data []byte
	end  error // if data is empty
}

func newHalf(n *Network, l *link, p *pair) *half {
	h := &half{net: n, link: l, pair: p, changed: newSignal()}
	l.halves[h] = struct{}{}
	return h
}

// stalledLocked says whether nothing arrives.
func (h *half) stalledLocked() bool {
	return h.net.cutLocked(h.link) || h.link.heldAll || h.link.held[h.pair.purpose]
}

// settleLocked lets arrive what is due.
func (h *half) settleLocked(now time.Time) {
	if h.stalledLocked() {
		return
	}
	for len(h.flying) > 0 && !h.flying[0].due.After(now) {
		s := h.flying[0]
		h.flying[0] = segment{}
		h.flying = h.flying[1:]
		switch {
		case s.end != nil:
			h.end = s.end
		case h.gone:
			h.size -= len(s.data)
		default:
			h.arrived = append(h.arrived, s.data...)
		}
	}
}

// nextLocked is when something arrives next; zero if that is not known.
func (h *half) nextLocked() time.Time {
	if len(h.flying) == 0 || h.stalledLocked() {
		return time.Time{}
	}
	return h.flying[0].due
}

// sendLocked puts a segment on its way. Segments keep their order when the delay gets shorter.
func (h *half) sendLocked(s segment, now time.Time) {
	s.due = now.Add(h.link.delay)
	if n := len(h.flying); n > 0 && h.flying[n-1].due.After(s.due) {
		s.due = h.flying[n-1].due
	}
	h.flying = append(h.flying, s)
	h.size += len(s.data)
	h.link.sent[h.pair.purpose] += int64(len(s.data))
	h.changed.broadcast()
}

// leaveLocked is that the reader goes; it says with what the connection ends for the other end: who leaves something unread resets.
func (h *half) leaveLocked() error {
	end := io.EOF
	if len(h.arrived) > 0 {
		end = errReset
	}
	h.gone = true
	h.size -= len(h.arrived)
	h.arrived = nil
	h.changed.broadcast()
	return end
}
