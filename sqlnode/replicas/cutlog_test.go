package replicas

import (
	"errors"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire/txn"
)

// cutLog loses the last entry of each large transaction.
type cutLog struct {
	pagestore.Log
	n int // parts let through
}

var errDeposed = errors.New("not primary any more")

// Propose implements pagestore.Log.
func (l *cutLog) Propose(entry []byte, done func(any, error)) {
	h, err := txn.DecodeHeader(entry)
	if err != nil || h.Kind != txn.Part {
		done(nil, errDeposed)
		return
	}
	l.n++
	l.Log.Propose(entry, done)
}
