package tenant

import (
	"fmt"
	"time"
)

// Limits is what a tenant may use. In each field 0 means the default.
type Limits struct {
	// Size bounds the database, in bytes of its pages.
	Size int64 `json:"size,omitempty"`
	// Statement bounds the text of one statement, in bytes.
	Statement int64 `json:"statement,omitempty"`
	// Params bounds the parameters of one statement (SQLITE_LIMIT_VARIABLE_NUMBER).
	Params int64 `json:"params,omitempty"`
	// StatementTime bounds how long one statement may run.
	StatementTime Duration `json:"statement_time,omitempty"`
	// AnswerRows and AnswerBytes bound an answer that is held in memory until it
	// is whole. A streamed answer has no such bound.
	AnswerRows  int64 `json:"answer_rows,omitempty"`
	AnswerBytes int64 `json:"answer_bytes,omitempty"`
	// Transaction bounds the changed pages of one transaction, in bytes. An import has no such bound.
	Transaction int64 `json:"transaction,omitempty"`
	// TransactionIdle and TransactionTime bound an interactive transaction: between
	// two requests, and in all.
	TransactionIdle Duration `json:"transaction_idle,omitempty"`
	TransactionTime Duration `json:"transaction_time,omitempty"`
	// InFlight bounds the requests that one node runs or queues for the tenant.
	InFlight int64 `json:"in_flight,omitempty"`
	// BatchStatements bounds the statements of one batch.
	BatchStatements int64 `json:"batch_statements,omitempty"`
	// Readers bounds the reading connections that one node has open for the tenant.
	Readers int64 `json:"readers,omitempty"`
}

// DefaultLimits is what a tenant gets that asks for nothing else.
func DefaultLimits() Limits {
	return Limits{
		Size:            10 << 30,
		Statement:       1 << 20,
		Params:          32766, // SQLite's own default (SQLITE_MAX_VARIABLE_NUMBER)
		StatementTime:   Duration(30 * time.Second),
		AnswerRows:      100_000,
		AnswerBytes:     64 << 20,
		Transaction:     64 << 20,
		TransactionIdle: Duration(5 * time.Second),
		TransactionTime: Duration(30 * time.Second),
		// Over a round trip of 50 ms to a majority, 512 requests in flight make
		// about 10,000 writes a second; they cost some 10 MB when all of them wait.
		InFlight:        512,
		BatchStatements: 1000,
		// A warm connection holds about 2.4 MB. Readers never wait for the writer,
		// so a few keep all cores of a node busy with one tenant.
		Readers: 4,
	}
}

// limit is one row of the table of all limits.
type limit struct {
	name     string
	number   *int64    // either this
	duration *Duration // or this
	min, max int64     // both allowed; of a duration in nanoseconds
}

// table lists the fields of l with their bounds: the one place that knows all of them.
func (l *Limits) table() []limit {
	return []limit{
		// Below four of the largest pages not even a table fits; 2^47 is 2^31 pages of 64 KiB.
		{name: "size", number: &l.Size, min: 4 * MaxPageSize, max: 1 << 47},
		{name: "statement", number: &l.Statement, min: 1 << 10, max: 16 << 20},
		{name: "params", number: &l.Params, min: 1, max: 32766},
		{name: "statement_time", duration: &l.StatementTime, min: int64(time.Millisecond), max: int64(time.Hour)},
		{name: "answer_rows", number: &l.AnswerRows, min: 1, max: 100_000_000},
		{name: "answer_bytes", number: &l.AnswerBytes, min: 4 << 10, max: 1 << 30},
		{name: "transaction", number: &l.Transaction, min: 4 * MaxPageSize, max: 1 << 30},
		{name: "transaction_idle", duration: &l.TransactionIdle, min: int64(time.Millisecond), max: int64(time.Hour)},
		{name: "transaction_time", duration: &l.TransactionTime, min: int64(time.Millisecond), max: int64(time.Hour)},
		{name: "in_flight", number: &l.InFlight, min: 1, max: 65536},
		{name: "batch_statements", number: &l.BatchStatements, min: 1, max: 1_000_000},
		{name: "readers", number: &l.Readers, min: 1, max: 256},
	}
}

// LimitError says which limit can't be what it was asked to be.
type LimitError struct {
	Field    string // its name in JSON
	Got      string
	Min, Max string
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("limit %s: %s is not between %s and %s", e.Field, e.Got, e.Min, e.Max)
}

// Validate refuses values out of bounds with a *LimitError. Zero is in bounds.
func (l Limits) Validate() error {
	for _, row := range l.table() {
		if row.number != nil {
			if n := *row.number; n != 0 && (n < row.min || n > row.max) {
				return &LimitError{row.name, fmt.Sprint(n), fmt.Sprint(row.min), fmt.Sprint(row.max)}
			}
			continue
		}
		if d := *row.duration; d != 0 && (int64(d) < row.min || int64(d) > row.max) {
			return &LimitError{row.name, d.String(), Duration(row.min).String(), Duration(row.max).String()}
		}
	}
	return nil
}

// Or is l with the fields of other where l has zero.
func (l Limits) Or(other Limits) Limits {
	from := other.table()
	for i, row := range l.table() {
		switch {
		case row.number != nil && *row.number == 0:
			*row.number = *from[i].number
		case row.duration != nil && *row.duration == 0:
			*row.duration = *from[i].duration
		}
	}
	return l
}

// WithDefaults is l with the defaults where l has zero: what is in force.
func (l Limits) WithDefaults() Limits { return l.Or(DefaultLimits()) }

// Duration is a time.Duration that JSON and config files spell like "1.5s".
type Duration time.Duration

// Std returns d as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String is time.Duration's.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText gives String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration does.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %.40q: want a number with a unit, like \"500ms\" or \"30s\"", text)
	}
	*d = Duration(v)
	return nil
}
