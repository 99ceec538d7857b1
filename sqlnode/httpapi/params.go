package httpapi

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/native"
)

// eachParam calls f for each query parameter. Twice the same one is refused.
func eachParam(r *http.Request, f func(name, value string) error) error {
	rest := r.URL.RawQuery
	var seen [16]string
	n := 0
	for rest != "" {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err1 := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		if err1 != nil || err2 != nil {
			return wire.NewError(wire.CodeBadRequest, "malformed query parameter %.60q", pair)
		}
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return wire.NewError(wire.CodeInvalidUTF8, "query parameter %.60q is not UTF-8", name)
		}
		for _, s := range seen[:n] {
			if s == name {
				return wire.NewError(wire.CodeBadRequest, "query parameter %.60q comes twice", name)
			}
		}
		if err := f(name, value); err != nil {
			return err
		}
		if n < len(seen) { // no route knows more
			seen[n] = name
			n++
		}
	}
	return nil
}

func unknownParam(name string) error {
	return wire.NewError(wire.CodeBadRequest, "unknown query parameter %.60q", name)
}

func badParam(name, value, want string) error {
	return wire.NewError(wire.CodeBadRequest, "%s=%.60q: want %s", name, value, want)
}

// sqlParams is what the query and headers of an SQL request say.
type sqlParams struct {
	req     *wire.Request
	form    native.Options
	stream  bool
	query   string // q
	hasQ    bool
	args    string
	hasArgs bool
}

// bookmarkMax and idempotencyKeyMax bound what clients give back, in bytes.
const (
	bookmarkMax       = 4 << 10
	idempotencyKeyMax = 255
)

// timeParamMax bounds durations that clients ask for.
const timeParamMax = 24 * time.Hour

func (p *sqlParams) param(name, value string) error {
	switch name {
	case "consistency":
		switch value {
		case "strong":
			p.req.Consistency = wire.Strong
		case "weak":
			p.req.Consistency = wire.Weak
		default:
			return badParam(name, value, "strong or weak")
		}
	case "max_staleness":
		if value == "any" {
			p.req.MaxStaleness = wire.AnyStaleness
			return nil
		}
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 || d > timeParamMax {
			return badParam(name, value, "any, or a duration above 0 as 500ms or 2s, at most 24h")
		}
		p.req.MaxStaleness = d
	case "bookmark":
		if len(value) > bookmarkMax {
			return wire.NewError(wire.CodeBadBookmark, "the bookmark has %d bytes, no bookmark has more than %d", len(value), bookmarkMax)
		}
		p.req.Bookmark = value
	case "on_stale":
		switch value {
		case "forward":
			p.req.FailOnStale = false
		case "fail":
			p.req.FailOnStale = true
		default:
			return badParam(name, value, "forward or fail")
		}
	case "rows":
		switch value {
		case "arrays":
			p.form.Objects = false
		case "objects":
			p.form.Objects = true
		default:
			return badParam(name, value, "arrays or objects")
		}
	case "integers":
		switch value {
		case "number":
			p.form.IntegerString = false
		case "string":
			p.form.IntegerString = true
		default:
			return badParam(name, value, "number or string")
		}
	case "timeout":
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 || d > timeParamMax {
			return badParam(name, value, "a duration above 0 as 500ms or 2s, at most 24h")
		}
		p.req.Timeout = d
	case "args":
		p.args, p.hasArgs = value, true
	case "q":
		p.query, p.hasQ = value, true
	default:
		return unknownParam(name)
	}
	return nil
}

// headers reads what headers say beside the body.
func (p *sqlParams) headers(r *http.Request) error {
	if list := r.Header["Nearsql-Bookmark"]; len(list) > 0 && list[0] != "" {
		if p.req.Bookmark != "" && p.req.Bookmark != list[0] || len(list) > 1 {
			return wire.NewError(wire.CodeBadRequest, "the request has two bookmarks")
		}
		if err := p.param("bookmark", list[0]); err != nil {
			return err
		}
	}
	if list := r.Header["Idempotency-Key"]; len(list) > 0 {
		key := list[0]
		if len(list) > 1 || key == "" || len(key) > idempotencyKeyMax {
			return wire.NewError(wire.CodeBadRequest, "want one Idempotency-Key of 1 to %d characters", idempotencyKeyMax)
		}
		for _, c := range []byte(key) {
			if c < 0x21 || c > 0x7e {
				return wire.NewError(wire.CodeBadRequest, "the Idempotency-Key may have visible characters of ASCII only")
			}
		}
		if r.Method != http.MethodPost {
			return wire.NewError(wire.CodeBadRequest, "an Idempotency-Key is for POST")
		}
		p.req.IdempotencyKey = key
	}
	var ok bool
	if p.stream, ok = wantsLines(r.Header["Accept"]); !ok {
		return wire.NewError(wire.CodeNotAcceptable, "the answer is application/json or application/x-ndjson")
	}
	return nil
}

// wantsLines says whether Accept prefers NDJSON to JSON, which is the answer where it
// has no preference. ok is false if it takes neither.
func wantsLines(accept []string) (lines, ok bool) {
	if len(accept) == 0 || len(accept) == 1 && (accept[0] == "" || accept[0] == "*/*" || accept[0] == "application/json") {
		return false, true
	}
	json, ndjson := -1.0, -1.0
	jsonNamed := false
	first := ""
	for _, list := range accept {
		for item := range strings.SplitSeq(list, ",") {
			kind, q := mediaQuality(item)
			switch kind {
			case "application/json":
				json, jsonNamed = q, true
			case "application/x-ndjson", "application/ndjson":
				ndjson = q
			case "*/*", "application/*":
				if !jsonNamed {
					json = max(json, q)
				}
				continue
			default:
				continue
			}
			if first == "" {
				first = kind
			}
		}
	}
	switch {
	case json <= 0 && ndjson <= 0:
		return false, false
	case ndjson == json:
		return first != "application/json", true
	}
	return ndjson > json, true
}

// mediaQuality splits one item of Accept or Accept-Encoding into its lower-case name and q.
func mediaQuality(item string) (string, float64) {
	name, params, _ := strings.Cut(item, ";")
	q := 1.0
	for p := range strings.SplitSeq(params, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(k, "q") {
			if f, err := strconv.ParseFloat(v, 64); err == nil && f >= 0 && f <= 1 {
				q = f
			}
		}
	}
	return strings.ToLower(strings.TrimSpace(name)), q
}

// mediaType is the lower-case type of a Content-Type, without parameters. A
// charset other than UTF-8 is refused.
func mediaType(contentType string) (string, error) {
	if contentType == "" || contentType == "application/json" {
		return contentType, nil
	}
	kind, params, _ := strings.Cut(contentType, ";")
	for p := range strings.SplitSeq(params, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if v = strings.Trim(v, `"`); strings.EqualFold(k, "charset") && !strings.EqualFold(v, "utf-8") && !strings.EqualFold(v, "us-ascii") {
			return "", wire.NewError(wire.CodeUnsupportedMediaType, "charset %.40q: want utf-8", v)
		}
	}
	return strings.ToLower(strings.TrimSpace(kind)), nil
}

// bodyKind is the media type of a request's body; "" means that of the route. What curl -d says unasked
// counts as unsaid, if the request has a token: a browser sends that type for any page without
// asking first, but never a token.
func bodyKind(r *http.Request) (string, error) {
	list := r.Header["Content-Type"]
	if len(list) == 0 {
		return "", nil
	}
	kind, err := mediaType(list[0])
	if kind == "application/x-www-form-urlencoded" && len(r.Header["Authorization"]) > 0 {
		kind = ""
	}
	return kind, err
}
