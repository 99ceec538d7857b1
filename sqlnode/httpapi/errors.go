package httpapi

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/native"
)

// sentError is an error that the client has been told of, as well as it could be,
// in the answer that had begun.
type sentError struct{ error }

func (e sentError) Unwrap() error { return e.error }

// clientError is err as a client is told of it.
func clientError(err error) *wire.Error {
	var (
		told    *wire.Error
		name    *tenant.NameError
		none    *tenant.NoSuchTenantError
		exists  *tenant.ExistsError
		deleted *tenant.DeletedError
		frozen  *tenant.FrozenError
		limit   *tenant.LimitError
		long    *http.MaxBytesError
		away    *ElsewhereError
	)
	switch {
	case errors.As(err, &away):
		return wire.NewError(wire.CodeNotPrimary, "%w", away)
	case errors.As(err, &told):
		return told
	case errors.As(err, &name):
		return wire.NewError(wire.CodeBadName, "%w", name)
	case errors.As(err, &none):
		return wire.NewError(wire.CodeNoSuchTenant, "%w", none)
	case errors.As(err, &exists):
		return wire.NewError(wire.CodeTenantExists, "%w", exists)
	case errors.As(err, &deleted):
		return wire.NewError(wire.CodeTenantDeleted, "%w", deleted)
	case errors.As(err, &frozen):
		return wire.NewError(wire.CodeTenantFrozen, "%w", frozen)
	case errors.As(err, &limit):
		return wire.NewError(wire.CodeBadRequest, "%w", limit)
	case errors.As(err, &long):
		return wire.NewError(wire.CodeRequestTooLarge, "the body is larger than %d bytes", long.Limit)
	}
	return wire.AsError(err)
}

// jsonType is the Content-Type of JSON. It has no charset: some clients of Hrana know no other form. Never written.
var jsonType = []string{"application/json"}

// writeError answers with e.
func writeError(w http.ResponseWriter, e *wire.Error) {
	h := w.Header()
	h["Content-Type"] = jsonType
	switch status := e.HTTPStatus(); {
	case e.RetryAfter > 0:
		h.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	case status == http.StatusTooManyRequests:
		h.Set("Retry-After", "1")
	case status == http.StatusUnauthorized:
		h.Set("Www-Authenticate", "Bearer")
	}
	body := append(native.AppendError(nil, e), '\n')
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(e.HTTPStatus())
	_, _ = w.Write(body)
}

// requestIDMax bounds a request id that a client chose, in bytes.
const requestIDMax = 64

// requestID is the client's own id of the request, if it gave one that can stand in a log.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	if len(id) > requestIDMax {
		return ""
	}
	for _, c := range []byte(id) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_', c == '.':
		default:
			return ""
		}
	}
	return id
}

func newRequestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// logFailure writes the line for a request that failed: when the node is at fault, and
// for each change and copy of a tenant that an administrator asked for.
func (h *Handler) logFailure(route *route, r *http.Request, id string, e *wire.Error) {
	fault := e.HTTPStatus() == http.StatusInternalServerError
	if !fault && (!route.logged || e.Code == wire.CodeUnauthenticated) {
		return
	}
	level := slog.LevelWarn
	switch {
	case fault:
		level = slog.LevelError
	case e.HTTPStatus() < 500:
		level = slog.LevelInfo // the client's own
	}
	attrs := []slog.Attr{
		slog.String("route", route.counts.name), slog.String("request", id),
		slog.String("code", string(e.Code)), slog.String("error", e.Message),
	}
	if t := r.PathValue("t"); t != "" {
		attrs = append(attrs, slog.String("tenant", t))
	}
	if cause := e.Unwrap(); cause != nil {
		attrs = append(attrs, slog.Any("cause", cause))
	}
	h.log.LogAttrs(r.Context(), level, "request failed", attrs...)
}

// brokenError is an error in the midst of an answer that has no other way to say so than
// to break the connection.
type brokenError struct{ error }

func (e brokenError) Unwrap() error { return e.error }
