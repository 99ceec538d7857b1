package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// listMax and listDefault are numbers of tenants in one answer.
const (
	listMax     = 1000
	listDefault = 100
)

func (h *Handler) listTenants(w http.ResponseWriter, r *http.Request) error {
	if err := h.admin(r); err != nil {
		return err
	}
	after, limit := "", listDefault
	if err := eachParam(r, func(name, value string) error {
		switch name {
		case "after":
			if len(value) > tenant.MaxNameLen {
				return badParam(name, value, "the name of a tenant")
			}
			after = value
		case "limit":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > listMax {
				return badParam(name, value, "a number from 1 to "+strconv.Itoa(listMax))
			}
			limit = n
		default:
			return unknownParam(name)
		}
		return nil
	}); err != nil {
		return err
	}
	return h.anywhere(w, r, &errand{}, func() error { return h.listTenantsHere(w, r, after, limit) })
}

func (h *Handler) listTenantsHere(w http.ResponseWriter, r *http.Request, after string, limit int) error {
	list, err := h.tenants.List(r.Context(), after, limit)
	if err != nil {
		return err
	}
	page := struct {
		Tenants []tenant.Tenant `json:"tenants"`
		Next    *string         `json:"next"`
	}{Tenants: list}
	if list == nil {
		page.Tenants = []tenant.Tenant{}
	}
	if len(list) == limit {
		next := string(list[len(list)-1].Name)
		page.Next = &next
	}
	return h.writeJSON(w, r, http.StatusOK, page)
}

func (h *Handler) createTenant(w http.ResponseWriter, r *http.Request) error {
	if err := h.admin(r); err != nil {
		return err
	}
	if err := eachParam(r, noParam); err != nil {
		return err
	}
	var in struct {
		Name *string `json:"name"`
		createOptions
	}
	body, err := h.jsonBody(w, r, &in)
	if err != nil {
		return err
	}
	if in.Name == nil {
		return wire.NewError(wire.CodeBadRequest, `the body has no "name"`)
	}
	if _, err := tenant.ParseName(*in.Name); err != nil {
		return err
	}
	if err := in.Validate(); err != nil {
		return wire.NewError(wire.CodeBadRequest, "%w", err)
	}
	return h.anywhere(w, r, &errand{body: body}, func() error {
		o, err := h.resolve(r.Context(), &in.createOptions)
		if err != nil {
			return err
		}
		t, err := h.tenants.Create(r.Context(), *in.Name, o)
		if err != nil {
			return err
		}
		w.Header().Set("Location", "/v1/tenants/"+*in.Name)
		return h.writeJSON(w, r, http.StatusCreated, t)
	})
}

func (h *Handler) getTenant(w http.ResponseWriter, r *http.Request) error {
	name, err := h.adminOf(r)
	if err != nil {
		return err
	}
	return h.anywhere(w, r, &errand{}, func() error {
		t, err := h.tenants.Get(r.Context(), name)
		if err != nil {
			return err
		}
		return h.writeJSON(w, r, http.StatusOK, h.withTables(r.Context(), t))
	})
}

func (h *Handler) deleteTenant(w http.ResponseWriter, r *http.Request) error {
	name, err := h.adminOf(r)
	if err != nil {
		return err
	}
	return h.anywhere(w, r, &errand{}, func() error {
		if err := h.tenants.Delete(r.Context(), name); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
}

// adminOf is for routes of one tenant that take no parameters: it refuses all but
// administrators, and returns the tenant's name.
func (h *Handler) adminOf(r *http.Request) (string, error) {
	if err := h.admin(r); err != nil {
		return "", err
	}
	name, err := tenantName(r)
	if err != nil {
		return "", err
	}
	return name, eachParam(r, noParam)
}

func noParam(name, _ string) error { return unknownParam(name) }

// jsonBody reads the body of a request of an administrator into v. It gives the body, too.
func (h *Handler) jsonBody(w http.ResponseWriter, r *http.Request, v any) ([]byte, error) {
	kind, err := bodyKind(r)
	if err != nil {
		return nil, err
	}
	if kind != "" && kind != "application/json" {
		return nil, wire.NewError(wire.CodeUnsupportedMediaType, "Content-Type %.60q: want application/json", kind)
	}
	body, err := h.readBody(w, r, nil)
	if err != nil {
		return nil, err
	}
	return body, decodeJSON(body, v)
}

// decodeJSON reads a body that only administrators send.
func decodeJSON(body []byte, into any) error {
	if !utf8.Valid(body) {
		return wire.NewError(wire.CodeInvalidUTF8, "the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, err := d.Token(); err != io.EOF {
			return wire.NewError(wire.CodeBadJSON, "more after the body's object")
		}
		return nil
	}
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind):
		return wire.NewError(wire.CodeBadJSON, "%s: %s is no %s", kind.Field, kind.Value, kind.Type)
	case errors.Is(err, io.EOF):
		return wire.NewError(wire.CodeBadJSON, "the body is empty")
	case strings.HasPrefix(err.Error(), "json: unknown field"): // has no type
		return wire.NewError(wire.CodeUnknownField, "%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return wire.NewError(wire.CodeBadJSON, "%w", err)
}

// writeJSON answers with v.
func (h *Handler) writeJSON(w http.ResponseWriter, r *http.Request, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	body = append(body, '\n')
	w.Header()["Content-Type"] = jsonType
	if status != http.StatusOK {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(status)
		_, err := w.Write(body)
		if err != nil {
			return sentError{gone(err)}
		}
		return nil
	}
	return h.writeAnswer(w, r, body)
}
