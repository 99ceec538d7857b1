package httpapi

import (
	"net/http"
	"slices"
)

// cors adds the headers that let pages of configured origins read the answer, and
// answers the question that a browser asks first. It says whether it answered.
// Tokens come in a header and never in a cookie, so that "*" gives nobody a right.
func (h *Handler) cors(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	all := slices.Contains(h.cfg.Origins, "*")
	header := w.Header()
	if !all {
		header.Add("Vary", "Origin")
		if !slices.Contains(h.cfg.Origins, origin) {
			return false
		}
	} else {
		origin = "*"
	}
	header.Set("Access-Control-Allow-Origin", origin)
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		header.Set("Access-Control-Expose-Headers", "Nearsql-Bookmark, Retry-After, X-Request-Id")
		return false
	}
	header.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE")
	header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Accept, Idempotency-Key, Nearsql-Bookmark, X-Request-Id")
	header.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
	return true
}
