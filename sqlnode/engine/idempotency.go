package engine

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// Outcomes of requests with an Idempotency-Key lie in the tenant's own database,
// written by the transaction that they are the outcome of, and are kept for a day.
const (
	outcomeTable = `CREATE TABLE IF NOT EXISTS _nearsql_outcome(
 subject TEXT NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL, at INTEGER NOT NULL, outcome BLOB NOT NULL,
 PRIMARY KEY(subject, key)) WITHOUT ROWID`
	outcomeIndex  = `CREATE INDEX IF NOT EXISTS _nearsql_outcome_at ON _nearsql_outcome(at)`
	outcomeSelect = `SELECT digest, outcome FROM _nearsql_outcome WHERE subject=? AND key=? AND at>?`
	outcomeInsert = `INSERT OR REPLACE INTO _nearsql_outcome(subject, key, digest, at, outcome) VALUES(?,?,?,?,?)`
	outcomeExpire = `DELETE FROM _nearsql_outcome WHERE (subject, key) IN (SELECT subject, key FROM _nearsql_outcome WHERE at<=? ORDER BY at LIMIT 20)`

	// KeepOutcomes is how long an Idempotency-Key holds.
	KeepOutcomes = 24 * time.Hour
	// maxOutcome bounds what is kept of an answer, in bytes.
	maxOutcome = 64 << 10
	// MaxIdempotencyKey bounds a key, in bytes.
	MaxIdempotencyKey = 255
)

// keptOutcome is what is stored, as JSON.
type keptOutcome struct {
	Version int          `json:"v"`
	Error   *keptError   `json:"error,omitempty"`
	Results []keptResult `json:"results,omitempty"`
}

type keptError struct {
	Code      wire.Code `json:"code"`
	Message   string    `json:"message"`
	Statement int       `json:"statement,omitempty"`
}

type keptResult struct {
	Columns  []wire.Column `json:"columns,omitempty"`
	Rows     [][]keptValue `json:"rows,omitempty"`
	Affected int64         `json:"affected,omitempty"`
	RowID    *int64        `json:"rowid,omitempty"`
}

// keptValue is a value: its class, and its content in the one field that fits.
type keptValue struct {
	K wire.Kind `json:"k"`
	I int64     `json:"i,omitempty"`
	F float64   `json:"f,omitempty"`
	B []byte    `json:"b,omitempty"` // text or blob
	S string    `json:"s,omitempty"` // a float that JSON has no number for
}

const outcomeVersion = 1

func keep(v wire.Value) keptValue {
	k := keptValue{K: v.Kind()}
	switch k.K {
	case wire.KindInteger:
		k.I = v.Int()
	case wire.KindFloat:
		if f := v.Float64(); math.IsInf(f, 0) || f == 0 && math.Signbit(f) {
			k.S = fmt.Sprint(f) // "-0": omitempty would leave it out
		} else {
			k.F = f
		}
	case wire.KindText, wire.KindBlob:
		k.B = []byte(v.Str())
	}
	return k
}

func (k keptValue) value() wire.Value {
	switch k.K {
	case wire.KindInteger:
		return wire.Integer(k.I)
	case wire.KindFloat:
		if k.S != "" {
			var f float64
			fmt.Sscan(k.S, &f)
			return wire.Float(f)
		}
		return wire.Float(k.F)
	case wire.KindText:
		return wire.Text(string(k.B))
	case wire.KindBlob:
		return wire.Blob(k.B)
	}
	return wire.Null
}

// requestDigest covers everything that a request does.
func requestDigest(req *wire.Request) []byte {
	h := sha256.New()
	for i := range req.Statements {
		s := &req.Statements[i]
		fmt.Fprintf(h, "%d:%s\x00%d\x00", len(s.SQL), s.SQL, len(s.Args))
		for _, a := range s.Args {
			fmt.Fprintf(h, "%d:%s\x00", a.Kind(), a)
		}
		for _, a := range s.Named {
			fmt.Fprintf(h, "%q=%d:%s\x00", a.Name, a.Value.Kind(), a.Value)
		}
	}
	return h.Sum(nil)
}

// own runs one of the engine's statements with arguments and gives its rows to row.
func (c *conn) own(sql string, row func([]wire.Value), args ...wire.Value) error {
	return c.internally(func() error {
		st, _, err := c.Prepare(sql, false)
		if err != nil {
			return err
		}
		defer st.Finalize()
		if err := st.BindAll(args); err != nil {
			return err
		}
		for {
			ok, err := st.Step()
			if err != nil || !ok {
				return err
			}
			if row != nil {
				vs := make([]wire.Value, st.ColumnCount())
				for i := range vs {
					vs[i] = st.Column(i)
				}
				row(vs)
			}
		}
	})
}

// recall looks for the outcome of an earlier request with the same key, and makes it the job's.
func (w *writer) recall(j *job) (known bool, _ *wire.Error) {
	c := w.conn
	if err := c.own(outcomeTable, nil); err != nil {
		return false, c.fail(err)
	}
	if err := c.own(outcomeIndex, nil); err != nil {
		return false, c.fail(err)
	}
	var digest, blob string
	found := false
	err := c.own(outcomeSelect, func(v []wire.Value) { digest, blob, found = v[0].Str(), v[1].Str(), true },
		wire.Text(j.req.Subject), wire.Text(j.req.IdempotencyKey), wire.Integer(c.now().Add(-KeepOutcomes).UnixMilli()))
	if err != nil {
		return false, c.fail(err)
	}
	if !found {
		return false, nil
	}
	if digest != string(requestDigest(j.req)) {
		return true, wire.NewError(wire.CodeIdempotencyMismatch, "the Idempotency-Key was used for another request")
	}
	var o keptOutcome
	if err := json.Unmarshal([]byte(blob), &o); err != nil {
		return false, wire.NewError(wire.CodeInternal, "outcome kept under the Idempotency-Key: %w", err)
	}
	if o.Version != outcomeVersion {
		return false, wire.NewError(wire.CodeInternal, "the outcome kept under the Idempotency-Key has version %d; known here is %d", o.Version, outcomeVersion)
	}
	j.replayed = true
	j.answers.reset() // what ran before the transaction is in the outcome, too
	if o.Error != nil {
		e := wire.NewError(o.Error.Code, "%s", o.Error.Message)
		e.Statement = o.Error.Statement
		return true, e
	}
	for i := range o.Results {
		r := &o.Results[i]
		res := wire.Result{Columns: r.Columns}
		res.RowsAffected = r.Affected
		if r.RowID != nil {
			res.LastInsertRowID, res.Inserted = *r.RowID, true
		}
		for _, row := range r.Rows {
			vs := make([]wire.Value, len(row))
			for i, v := range row {
				vs[i] = v.value()
			}
			res.Rows = append(res.Rows, vs)
		}
		j.answers.results = append(j.answers.results, res)
	}
	return true, nil
}

// remember keeps the outcome of a request that went well, in its transaction.
func (w *writer) remember(j *job) *wire.Error {
	o := keptOutcome{Version: outcomeVersion}
	for i := range j.answers.results {
		res := &j.answers.results[i]
		k := keptResult{Columns: res.Columns, Affected: res.RowsAffected}
		if res.Inserted {
			k.RowID = &res.LastInsertRowID
		}
		for _, row := range res.Rows {
			vs := make([]keptValue, len(row))
			for i, v := range row {
				vs[i] = keep(v)
			}
			k.Rows = append(k.Rows, vs)
		}
		o.Results = append(o.Results, k)
	}
	if err := w.store(j, &o); err != nil {
		var e *wire.Error
		if errors.As(err, &e) {
			return e
		}
		return w.conn.fail(err)
	}
	return nil
}

// keepable says whether a repeat of the job's request should get the same error: the request is at
// fault, not the moment.
func keepable(j *job) bool {
	if j.req.IdempotencyKey == "" || j.replayed || j.err.Retryable || j.first == classVacuum {
		return false
	}
	switch j.err.Code {
	case wire.CodeIdempotencyMismatch, wire.CodeTimeout, wire.CodeCancelled, wire.CodeInternal, wire.CodeCorrupt, wire.CodeDiskFull,
		wire.CodeTenantFull, wire.CodeUnknownOutcome, wire.CodeTenantFrozen, wire.CodeStatementRefused:
		return false
	}
	return true
}

// keepOutcome keeps a failed job's error, after what it did was rolled back.
func (w *writer) keepOutcome(j *job) error {
	if !keepable(j) {
		return nil
	}
	if err := w.conn.own(outcomeTable, nil); err != nil {
		return err
	}
	if err := w.conn.own(outcomeIndex, nil); err != nil {
		return err
	}
	return w.store(j, &keptOutcome{Version: outcomeVersion, Error: &keptError{Code: j.err.Code, Message: j.err.Message, Statement: j.err.Statement}})
}

func (w *writer) store(j *job, o *keptOutcome) error {
	b, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode outcome: %w", err)
	}
	if len(b) > maxOutcome {
		return wire.NewError(wire.CodeAnswerTooLarge, "the answer is too large to be kept under an Idempotency-Key (%d bytes; the limit is %d): ask for less by RETURNING", len(b), maxOutcome)
	}
	now := w.conn.now()
	if err := w.conn.own(outcomeExpire, nil, wire.Integer(now.Add(-KeepOutcomes).UnixMilli())); err != nil {
		return err
	}
	return w.conn.own(outcomeInsert, nil, wire.Text(j.req.Subject), wire.Text(j.req.IdempotencyKey),
		wire.Blob(requestDigest(j.req)), wire.Integer(now.UnixMilli()), wire.Blob(b))
}
