package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// answerLine is one line of an answer, or the body of an error. Keys that are
// not known are passed over, so that a client can talk to a newer node.
type answerLine struct {
	row []json.RawMessage // not nil for a row

	Columns []string `json:"columns"` // not nil where a statement begins
	Types   []string `json:"types"`

	End *struct {
		RowsAffected    int64     `json:"rows_affected"`
		LastInsertRowID *exactInt `json:"last_insert_rowid"`
	} `json:"end"`

	Bookmark string    `json:"bookmark"`
	Meta     *metaJSON `json:"meta"`

	// A body has the text here, and its other keys beside it; a line has an
	// object with all of them.
	Error json.RawMessage `json:"error"`
}

// errorJSON is what is said of an error. Its text is in two keys, the second of
// which another kind of client reads.
type errorJSON struct {
	Message      string    `json:"message"`
	Error        string    `json:"error"`
	Code         wire.Code `json:"code"`
	Statement    int       `json:"statement"` // null without one
	Retryable    bool      `json:"retryable"`
	RetryAfterMS float64   `json:"retry_after_ms"`
}

type metaJSON struct {
	Consistency string  `json:"consistency"`
	StalenessMS float64 `json:"staleness_ms"`
	// TablesMS is there when conflict-free tables were read, and null when the age of what was seen of them is not known.
	TablesMS   json.RawMessage `json:"crr_staleness_ms"`
	Node       string          `json:"node"`
	PoP        string          `json:"pop"`
	Role       string          `json:"role"`
	DurationMS float64         `json:"duration_ms"`
	Replayed   bool            `json:"replayed"`
}

// exactInt is an integer that JSON has as a number or, beyond 2^53, perhaps as text.
type exactInt int64

func (i *exactInt) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseInt(string(bytes.Trim(b, `"`)), 10, 64)
	if err != nil {
		return fmt.Errorf("%s is no integer of 64 bits", b)
	}
	*i = exactInt(n)
	return nil
}

func (l *answerLine) meta() wire.Meta {
	m := wire.Meta{
		Staleness: millis(l.Meta.StalenessMS), Node: l.Meta.Node, PoP: l.Meta.PoP, Role: l.Meta.Role,
		Duration: millis(l.Meta.DurationMS), Bookmark: l.Bookmark, Replayed: l.Meta.Replayed,
	}
	switch l.Meta.Consistency {
	case "strong":
		m.Consistency = wire.Strong
	case "weak":
		m.Consistency = wire.Weak
	case "local":
		m.Consistency = wire.Local
	}
	if m.Tables = len(l.Meta.TablesMS) > 0; m.Tables {
		var ms *float64
		if m.TablesStaleness = wire.AnyStaleness; json.Unmarshal(l.Meta.TablesMS, &ms) == nil && ms != nil {
			m.TablesStaleness = millis(*ms)
		}
	}
	return m
}

// millis makes a duration of milliseconds; one that no duration can hold is the greatest there is.
func millis(ms float64) time.Duration {
	ns := ms * float64(time.Millisecond)
	if !(ns < math.MaxInt64) {
		return math.MaxInt64
	}
	return time.Duration(ns)
}

// decodeError reads what is said of an error: a whole body, or what a line has under "error".
func decodeError(b []byte, h http.Header) (*wire.Error, error) {
	var j errorJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, err
	}
	e := &wire.Error{Code: j.Code, Message: j.Message, Statement: j.Statement, Retryable: j.Retryable}
	if e.Message == "" {
		e.Message = j.Error
	}
	if e.Code == "" || e.Message == "" {
		return nil, fmt.Errorf("has no code or no message")
	}
	if j.RetryAfterMS > 0 {
		e.RetryAfter = millis(j.RetryAfterMS)
	} else if s, err := strconv.Atoi(h.Get("Retry-After")); err == nil && s > 0 && s < 1<<31 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e, nil
}

// decodeValue reads one value of a row.
func decodeValue(raw json.RawMessage) (wire.Value, error) {
	if len(raw) == 0 {
		return wire.Null, fmt.Errorf("no value")
	}
	switch c := raw[0]; {
	case c == 'n':
		return wire.Null, nil
	case c == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return wire.Null, err
		}
		return wire.Text(s), nil
	case c == '{':
		return decodeObject(raw)
	case c == '-' || c >= '0' && c <= '9':
		return decodeNumber(string(raw))
	}
	return wire.Null, fmt.Errorf("%.40q is no value of SQLite", string(raw))
}

func decodeNumber(s string) (wire.Value, error) {
	if strings.ContainsAny(s, ".eE") {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return wire.Null, fmt.Errorf("real %.40q: %w", s, err)
		}
		return wire.Float(f), nil
	}
	i, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return wire.Null, fmt.Errorf("integer %.40q: %w", s, err)
	}
	return wire.Integer(i), nil
}

func decodeObject(raw json.RawMessage) (wire.Value, error) {
	var o struct {
		Base64 *string `json:"base64"`
		Float  *string `json:"float"`
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return wire.Null, err
	}
	switch {
	case o.Base64 != nil:
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(*o.Base64, "="))
		if err != nil {
			return wire.Null, fmt.Errorf("blob: %w", err)
		}
		return wire.Blob(b), nil
	case o.Float != nil:
		switch *o.Float {
		case "inf":
			return wire.Float(math.Inf(1)), nil
		case "-inf":
			return wire.Float(math.Inf(-1)), nil
		}
	}
	return wire.Null, fmt.Errorf("%.40q is no value of SQLite", string(raw))
}
