package quickhttp

import (
	"bytes"
	"context"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

const (
	maxHead = 8 << 10  // bytes of a common request's head
	maxBody = 64 << 10 // and of its body
)

// verdict is what is known of the bytes of a connection.
type verdict uint8

const (
	more   verdict = iota // a common request may come of them
	common                // they begin with the whole head of one
	other                 // no common request
)

// head is the head of a common request.
type head struct {
	size   int    // bytes, with the empty line
	body   int    // bytes that follow
	method string // GET or POST
	target string
	path   string
	query  string
	host   string
	header http.Header
}

// parseHead says what the bytes from the begin of a request are. It is strict: what a client has no reason to send is other, whatever net/http
// makes of it. The first scanned bytes were found to be no whole head.
func parseHead(b []byte, scanned int) (head, verdict) {
	var h head
	if !plausible(b) {
		return h, other
	}
	limit := min(len(b), maxHead)
	lines := 0 // bytes of whole lines, if there is a new one
	for i := scanned; i < limit; i++ {
		n := bytes.IndexByte(b[i:limit], '\n')
		if n < 0 {
			break
		}
		if i += n; i == 0 || b[i-1] != '\r' {
			return h, other
		}
		lines = i + 1
		if i >= 3 && b[i-2] == '\n' {
			h.size = i + 1
			break
		}
	}
	switch {
	case h.size == 0 && len(b) >= maxHead:
		return h, other
	case lines == 0:
		return h, more
	case h.size > 0:
		lines -= 2 // the empty one
	}
	line, rest, _ := strings.Cut(string(b[:lines]), "\r\n")
	if !h.requestLine(line) || !h.fields(rest) {
		return h, other
	}
	if h.size == 0 {
		return head{}, more
	}
	if h.host == "" || (h.method == "POST") != (h.body >= 0) {
		return h, other
	}
	h.body = max(h.body, 0)
	return h, common
}

// plausible says whether bytes may be the begin of a common request, however few they are.
func plausible(b []byte) bool {
	n := min(len(b), 6)
	return string(b[:n]) == "POST /"[:n] || string(b[:min(n, 5)]) == "GET /"[:min(n, 5)]
}

func (h *head) requestLine(line string) bool {
	method, rest, _ := strings.Cut(line, " ")
	target, proto, ok := strings.Cut(rest, " ")
	if !ok || proto != "HTTP/1.1" || method != "GET" && method != "POST" || len(target) == 0 || target[0] != '/' {
		return false
	}
	h.method, h.target = method, target
	path, query, asks := strings.Cut(target, "?")
	if asks && query == "" || len(path) > 1 && path[1] == '/' {
		return false
	}
	for i := range len(path) {
		if c := path[i]; !alphanumeric(c) && strings.IndexByte("-._~/", c) < 0 {
			return false
		}
	}
	for i := range len(query) {
		if c := query[i]; !alphanumeric(c) && strings.IndexByte("-._~/?=&%+,:;@!$'()*", c) < 0 {
			return false
		}
	}
	h.path, h.query = path, query
	return true
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// fields takes lines behind the first; without a length, body is -1.
func (h *head) fields(text string) bool {
	lines := strings.Count(text, "\r\n")
	h.header = make(http.Header, lines)
	values := make([]string, 0, lines) // one allocation for the lists of all
	h.body = -1
	for text != "" {
		line, rest, _ := strings.Cut(text, "\r\n")
		text = rest
		name, value, ok := strings.Cut(line, ":")
		if !ok || !token(name) {
			return false
		}
		value = strings.Trim(value, " ")
		if !visible(value) {
			return false
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		switch name {
		case "Host":
			if h.host != "" || !hostname(value) {
				return false
			}
			h.host = value
			continue // net/http takes it out of the header too
		case "Content-Length":
			n, ok := length(value)
			if !ok || h.body >= 0 {
				return false
			}
			h.body = n
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") {
				return false
			}
		case "Transfer-Encoding", "Trailer", "Te", "Upgrade", "Expect", "Pragma", "Proxy-Connection", "Keep-Alive", "Http2-Settings":
			return false
		}
		if list := h.header[name]; list != nil {
			h.header[name] = append(list, value)
			continue
		}
		values = append(values, value)
		h.header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	return true
}

// token says whether a name of a field is one (RFC 9110, 5.6.2), less those characters that nobody uses.
func token(s string) bool {
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

// visible says whether a value has ASCII's visible characters and spaces alone.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func hostname(s string) bool {
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && strings.IndexByte("-._:[]", c) < 0 {
			return false
		}
	}
	return s != ""
}

// length reads a Content-Length that a common request may have.
func length(s string) (n int, ok bool) {
	if s == "" || len(s) > 5 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + int(s[i]-'0')
	}
	return n, n <= maxBody
}

// request is what a handler gets.
func (h *head) request(ctx context.Context, remote string, b *body) *http.Request {
	r := http.Request{
		Method: h.method, URL: &url.URL{Path: h.path, RawQuery: h.query}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h.header, Host: h.host, RemoteAddr: remote, RequestURI: h.target, Body: http.NoBody,
	}
	if h.body > 0 {
		r.ContentLength, r.Body = int64(h.body), b
	}
	return r.WithContext(ctx)
}
