package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultMaxAnswer is Options.MaxAnswer's default, in bytes.
const DefaultMaxAnswer = 64 << 20

// maxControlAnswer bounds answers that are neither rows nor exports, and errors, in bytes.
const maxControlAnswer = 16 << 20

// Options of a Client. The zero value is fit for a node on loopback.
type Options struct {
	Token string // bearer token; "" sends none
	// HTTP sends the requests; nil means a client of its own that follows no
	// redirects and has no timeout beyond the request's context.
	HTTP *http.Client
	// MaxAnswer bounds what Exec and Batch collect, in bytes of values; 0 means DefaultMaxAnswer.
	MaxAnswer int
	UserAgent string // "" means "nearsql"
	// Patience is how long reads, and writes with an Idempotency-Key, are sent again while the node answers that it can't
	// do this now, or the connection breaks before an answer; 0 is for one try.
	Patience time.Duration
}

// Client talks to one node. It is safe for use by several goroutines.
type Client struct {
	base      string // scheme, host and path, without a trailing slash
	token     string
	http      *http.Client
	maxAnswer int
	userAgent string
	patience  time.Duration
}

// New gives a client of the node at base, like "http://127.0.0.1:7600".
func New(base string, o Options) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("address of the node: %w", err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("address of the node: %q does not begin with http:// or https://", base)
	case u.Host == "":
		return nil, fmt.Errorf("address of the node: %q has no host", base)
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, fmt.Errorf("address of the node: %q has a user, a query or a fragment", u.Redacted())
	}
	c := &Client{
		base: strings.TrimRight(u.String(), "/"), token: o.Token, http: o.HTTP,
		maxAnswer: o.MaxAnswer, userAgent: o.UserAgent, patience: o.Patience,
	}
	if c.http == nil {
		c.http = &http.Client{
			Transport: http.DefaultTransport.(*http.Transport).Clone(),
			// A redirect would carry the token to where it was not given for.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if c.maxAnswer == 0 {
		c.maxAnswer = DefaultMaxAnswer
	}
	if c.userAgent == "" {
		c.userAgent = "nearsql"
	}
	return c, nil
}

// URL is the address of the node.
func (c *Client) URL() string { return c.base }

// CloseIdle closes connections that no request uses.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// UnreachableError says that a request did not get to the node, or the answer not back. Whether
// the node did what was asked is unknown.
type UnreachableError struct {
	URL string
	Err error
}

func (e *UnreachableError) Error() string { return fmt.Sprintf("node at %s: %v", e.URL, e.Err) }

// Unwrap gives the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// AnswerError says that an answer is not as the API has it.
type AnswerError struct {
	Status int // of HTTP
	What   string
	Err    error // the cause, or nil
}

func (e *AnswerError) Error() string {
	s := fmt.Sprintf("answer with status %d is not one of a nearsql node: %s", e.Status, e.What)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *AnswerError) Unwrap() error { return e.Err }

// call sends one request. An answer with a status other than 2xx is an error.
// The caller closes the body.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, header http.Header, body io.Reader) (*http.Response, error) {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", c.userAgent)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, c.readError(ctx, resp)
	}
	return resp, nil
}

// unreachable wraps an error of the network. When the caller's own context
// ended, that is the cause and not the node.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("request to the node at %s: %w", c.base, cause)
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // its text repeats the URL
	}
	return &UnreachableError{c.base, err}
}

// readError reads the body of an answer that is an error.
func (c *Client) readError(ctx context.Context, resp *http.Response) error {
	b, err := readAll(resp.Body, maxControlAnswer)
	if err != nil {
		return c.bodyError(ctx, resp, err)
	}
	e, err := decodeError(b, resp.Header)
	if err != nil {
		text := string(bytes.ToValidUTF8(b[:min(len(b), 200)], []byte("?")))
		return &AnswerError{resp.StatusCode, fmt.Sprintf("%s %q", http.StatusText(resp.StatusCode), text), err}
	}
	return e
}

// bodyError says why a body could not be read.
func (c *Client) bodyError(ctx context.Context, resp *http.Response, err error) error {
	var long *tooLongError
	if errors.As(err, &long) {
		return &AnswerError{resp.StatusCode, "the body", err}
	}
	return c.unreachable(ctx, err)
}

type tooLongError struct{ max int }

func (e *tooLongError) Error() string { return fmt.Sprintf("is longer than %d bytes", e.max) }

// readAll reads at most max bytes.
func readAll(r io.Reader, max int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(max)+1))
	if err == nil && len(b) > max {
		return nil, &tooLongError{max}
	}
	return b, err
}

// json makes a call whose answer is one JSON value, and reads it into out unless that is nil.
func (c *Client) json(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	header := http.Header{"Accept": {"application/json"}}
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("write a request: %w", err)
		}
		body = bytes.NewReader(b)
		header.Set("Content-Type", "application/json")
	}
	var resp *http.Response
	var err error
	if method == http.MethodGet {
		resp, err = c.patiently(ctx, method, path, query, header, nil)
	} else {
		resp, err = c.call(ctx, method, path, query, header, body)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := readAll(resp.Body, maxControlAnswer)
	if err != nil {
		return c.bodyError(ctx, resp, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return &AnswerError{resp.StatusCode, "the body", err}
	}
	return nil
}

// Status gives what the node says of itself, as JSON.
func (c *Client) Status(ctx context.Context) (json.RawMessage, error) {
	var raw json.RawMessage
	err := c.json(ctx, http.MethodGet, "/v1/status", nil, nil, &raw)
	return raw, err
}

// Ready is nil when the node takes requests.
func (c *Client) Ready(ctx context.Context) error {
	resp, err := c.call(ctx, http.MethodGet, "/readyz", nil, nil, nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
