package httpapi

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// errand is what has to be known of a request to pass it on.
type errand struct {
	tenant  string        // whose SQL it is about; "" for what only administrators do
	repeats bool          // to do it twice is as to do it once
	keyed   bool          // it has an Idempotency-Key, so that it happens once however often it is sent
	body    []byte        // the whole body, unpacked, which nobody changes or uses again
	stream  *importBody   // instead of body: one that can be read but once
	length  int64         // of stream, -1 when that is not known
	timeout time.Duration // of the request; 0 when it has none of its own
}

// The pauses before a request is tried again: they double from the first to the last, less up to a half at random.
const (
	pauseFirst = 5 * time.Millisecond
	pauseLast  = 250 * time.Millisecond
)

// anywhere does an errand: here, or on the node that here names by an *ElsewhereError. here is called again when
// no node has taken the errand, for a while.
func (h *Handler) anywhere(w http.ResponseWriter, r *http.Request, e *errand, here func() error) error {
	err := here()
	if err == nil || !movable(err) {
		return err
	}
	return h.elsewhere(w, r, e, err, here)
}

// movable says whether an error of this node alone may be that no node, or another, does the errand now.
func movable(err error) bool {
	var away *ElsewhereError
	if errors.As(err, &away) {
		return true
	}
	var sent sentError
	var told *wire.Error
	return errors.As(err, &told) && told.Code == wire.CodeNotPrimary && told.Retryable && !errors.As(err, &sent)
}

// elsewhere goes on where here has ended with err.
func (h *Handler) elsewhere(w http.ResponseWriter, r *http.Request, e *errand, err error, here func() error) error {
	if h.internal || h.peers == nil {
		var away *ElsewhereError
		if errors.As(err, &away) {
			if away.Either && away.Err != nil {
				return away.Err
			}
			w.Header().Set(headerPrimary, away.Node)
			w.Header().Set(headerApplied, "no")
		}
		return err
	}
	id, denied := h.identify(r)
	if denied != nil {
		return denied
	}
	began := time.Now()
	patience := h.cfg.ForwardPatience
	if e.timeout > 0 {
		patience = min(patience, e.timeout)
	}
	f := forward{h: h, errand: e, id: id, began: began, request: requestID(r)}
	if f.request == "" {
		f.request = newRequestID()
	}
	for pause := pauseFirst; ; pause = min(2*pause, pauseLast) {
		var away *ElsewhereError
		if errors.As(err, &away) {
			var again bool
			if again, err = f.try(w, r, away); !again {
				return err
			}
			if away.Either && away.Err != nil {
				return f.settled(away.Err)
			}
		}
		wait := pause - rand.N(pause/2+1)
		if e.stream != nil && e.stream.touched() || time.Since(began)+wait > patience {
			return f.settled(err)
		}
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
			return f.settled(r.Context().Err())
		}
		if err = here(); err == nil || !movable(err) {
			return f.settled(err)
		}
	}
}

// settled is err, the errand's last, unless it was perhaps done in an earlier try whose answer got
// lost: then nothing but the outcome kept under its key says what came of it.
func (f *forward) settled(err error) error {
	var sent sentError
	if f.lost == nil || err == nil || errors.As(err, &sent) || final(clientError(err)) {
		return err
	}
	return wire.NewError(wire.CodeUnknownOutcome, "the answer to a write got lost (%w); then: %w", f.lost, err)
}

// final says whether the error is one that is kept under an Idempotency-Key, so that the request had no effect
// in any of its tries.
func final(e *wire.Error) bool {
	switch status := e.HTTPStatus(); {
	case e.Code == wire.CodeIdempotencyMismatch:
		return true
	case status != http.StatusBadRequest && status != http.StatusConflict:
		return false
	}
	return strings.HasPrefix(string(e.Code), "SQLITE_")
}
