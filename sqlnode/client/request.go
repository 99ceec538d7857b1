package client

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nearsql/nearsql/wire"
)

// requestQuery gives the query parameters and headers that say how to serve r.
func requestQuery(r *wire.Request) (url.Values, http.Header) {
	q := url.Values{}
	switch r.Consistency {
	case wire.Strong:
		q.Set("consistency", "strong")
	case wire.Weak:
		q.Set("consistency", "weak")
	}
	switch {
	case r.MaxStaleness == wire.AnyStaleness:
		q.Set("max_staleness", "any")
	case r.MaxStaleness != 0:
		q.Set("max_staleness", duration(r.MaxStaleness))
	}
	if r.FailOnStale {
		q.Set("on_stale", "fail")
	}
	if r.Timeout != 0 {
		q.Set("timeout", duration(r.Timeout))
	}
	if r.Bookmark != "" {
		q.Set("bookmark", r.Bookmark)
	}
	h := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/x-ndjson"}}
	if r.IdempotencyKey != "" {
		h.Set("Idempotency-Key", r.IdempotencyKey)
	}
	return q, h
}

// duration spells d in milliseconds, rounded up: never is less asked for than meant.
func duration(d time.Duration) string {
	ms := (d + time.Millisecond - 1) / time.Millisecond
	return strconv.FormatInt(int64(ms), 10) + "ms"
}

// appendRequest writes the body of a request.
func appendRequest(b []byte, r *wire.Request) ([]byte, error) {
	if len(r.Statements) == 1 && !r.Batch {
		return appendStatement(b, &r.Statements[0], 1)
	}
	var err error
	b = append(b, `{"statements":[`...)
	for i := range r.Statements {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendStatement(b, &r.Statements[i], i+1); err != nil {
			return nil, err
		}
	}
	return append(b, "]}"...), nil
}

func appendStatement(b []byte, s *wire.Statement, number int) ([]byte, error) {
	var err error
	if len(s.Args) > 0 && len(s.Named) > 0 {
		return nil, fmt.Errorf("statement %d has arguments by position and by name", number)
	}
	b = append(b, `{"sql":`...)
	if b, err = appendText(b, s.SQL); err != nil {
		return nil, fmt.Errorf("statement %d: %w", number, err)
	}
	switch {
	case len(s.Args) > 0:
		for i, v := range s.Args {
			if i == 0 {
				b = append(b, `,"args":[`...)
			} else {
				b = append(b, ',')
			}
			if b, err = appendValue(b, v); err != nil {
				return nil, fmt.Errorf("statement %d, argument %d: %w", number, i+1, err)
			}
		}
		b = append(b, ']')
	case len(s.Named) > 0:
		for i, arg := range s.Named {
			if i == 0 {
				b = append(b, `,"args":{`...)
			} else {
				b = append(b, ',')
			}
			if b, err = appendText(b, arg.Name); err == nil {
				b = append(b, ':')
				b, err = appendValue(b, arg.Value)
			}
			if err != nil {
				return nil, fmt.Errorf("statement %d, argument %q: %w", number, arg.Name, err)
			}
		}
		b = append(b, '}')
	}
	return append(b, '}'), nil
}

func appendText(b []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("text is not valid UTF-8: send it as a blob")
	}
	q, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return append(b, q...), nil
}

func appendValue(b []byte, v wire.Value) ([]byte, error) {
	switch v.Kind() {
	case wire.KindInteger:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case wire.KindFloat:
		return appendFloat(b, v.Float64()), nil
	case wire.KindText:
		return appendText(b, v.Str())
	case wire.KindBlob:
		b = append(b, `{"base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, []byte(v.Str()))
		return append(b, `"}`...), nil
	}
	return append(b, "null"...), nil
}

// appendFloat writes a real so that it is read as one: with a point or an exponent.
func appendFloat(b []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(b, `{"float":"inf"}`...)
	case math.IsInf(f, -1):
		return append(b, `{"float":"-inf"}`...)
	}
	s := strconv.FormatFloat(f, 'g', -1, 64)
	b = append(b, s...)
	if !strings.ContainsAny(s, ".e") {
		b = append(b, ".0"...)
	}
	return b
}
