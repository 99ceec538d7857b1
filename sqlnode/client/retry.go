package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// The pauses before a request is sent again: they double from the first to the last, less up to a half at random.
const (
	pauseFirst = 20 * time.Millisecond
	pauseLast  = time.Second
)

// patiently sends a request that may be done twice, a read or a write with an Idempotency-Key, until
// a node answers it or Options.Patience is over. body is nil for none.
func (c *Client) patiently(ctx context.Context, method, path string, query url.Values, header http.Header, body []byte) (*http.Response, error) {
	began := time.Now()
	var lost error // of the first try that was perhaps done and has no answer
	for pause := pauseFirst; ; pause = min(2*pause, pauseLast) {
		var in io.Reader
		if body != nil {
			in = bytes.NewReader(body)
		}
		resp, err := c.call(ctx, method, path, query, header, in)
		if err == nil {
			return resp, nil
		}
		wait, again := repeat(err, pause)
		if again && time.Since(began)+wait <= c.patience {
			if lost == nil && header.Get("Idempotency-Key") != "" && !harmless(err) {
				lost = err
			}
			select {
			case <-time.After(wait):
				continue
			case <-ctx.Done():
				err = c.unreachable(ctx, err)
			}
		}
		if lost != nil && !kept(err) {
			return nil, wire.NewError(wire.CodeUnknownOutcome, "the answer to a write got lost (%w); then: %w", lost, err)
		}
		return nil, err
	}
}

// repeat says whether a request that may be done twice, and failed with err, may fare better after a while. A node that
// can't be dialled is none: it is more likely that there is no node there.
func repeat(err error, pause time.Duration) (time.Duration, bool) {
	wait := pause - rand.N(pause/2+1)
	var told *wire.Error
	var lost *UnreachableError
	var op *net.OpError
	switch {
	case errors.As(err, &told):
		again := told.HTTPStatus() == http.StatusServiceUnavailable && (told.Retryable || told.Code == wire.CodeUnknownOutcome)
		return max(wait, told.RetryAfter), again
	case errors.As(err, &lost):
		return wait, !errors.As(err, &op) || op.Op != "dial"
	}
	return 0, false
}

// harmless says that a request that failed with err surely had no effect.
func harmless(err error) bool {
	var told *wire.Error
	return errors.As(err, &told) && told.Retryable
}

// kept says that err is the outcome kept under an Idempotency-Key, so that the request had no effect in any of its tries.
func kept(err error) bool {
	var told *wire.Error
	if !errors.As(err, &told) {
		return false
	}
	status := told.HTTPStatus()
	return told.Code == wire.CodeIdempotencyMismatch ||
		strings.HasPrefix(string(told.Code), "SQLITE_") && (status == http.StatusBadRequest || status == http.StatusConflict)
}
