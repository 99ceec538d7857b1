package httpapi

import (
	"errors"
	"net/http"

	"github.com/nearsql/nearsql/wire"
)

func (h *Handler) getStatus(w http.ResponseWriter, r *http.Request) error {
	if err := h.admin(r); err != nil {
		return err
	}
	return h.writeJSON(w, r, http.StatusOK, h.status.Status(r.Context()))
}

// okBody is the answer of checks that pass. Never written.
var okBody = []byte("{\"ok\":true}\n")

// healthz says that the process answers.
func (h *Handler) healthz(w http.ResponseWriter, r *http.Request) error {
	w.Header()["Content-Type"] = jsonType
	return h.writeAnswer(w, r, okBody)
}

// readyz says whether the node takes requests.
func (h *Handler) readyz(w http.ResponseWriter, r *http.Request) error {
	if err := h.status.Ready(r.Context()); err != nil {
		var known *wire.Error
		if !errors.As(err, &known) || known.HTTPStatus() != http.StatusServiceUnavailable {
			err = wire.NewError(wire.CodeNotReady, "the node is not ready: %w", err)
		}
		return err
	}
	return h.healthz(w, r)
}

func (h *Handler) getMetrics(w http.ResponseWriter, r *http.Request) error {
	if h.metrics == nil {
		return notFound(w, r)
	}
	if !h.cfg.OpenMetrics {
		if err := h.admin(r); err != nil {
			return err
		}
	}
	h.metrics.ServeHTTP(w, r)
	return nil
}
