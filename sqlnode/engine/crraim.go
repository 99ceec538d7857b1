package engine

import "github.com/nearsql/nearsql/wire"

// aim decides which schema a request writes, and refuses one that writes both.
func (db *DB) aim(req *wire.Request, p *plan) *wire.Error {
	state := db.crrState()
	var main, local string
	mainAt := 0
	for i := range req.Statements {
		sql := req.Statements[i].SQL
		k := p.first
		if len(p.kinds) > 0 {
			k = p.kinds[i]
		}
		switch k {
		case classWrite, classAlone:
		case classSession:
			if main == "" {
				main, mainAt = verb(sql)+" …", i+1
			}
			continue
		default:
			continue
		}
		to, name := target(sql, k, state)
		switch to {
		case toDeclare:
			if len(req.Statements) > 1 {
				return wire.NewError(wire.CodeSQLNotAllowed, "a change of the conflict-free schema (%s) is a request of its own, not part of a batch", name).At(i + 1)
			}
			p.to, p.alone = toDeclare, true
		case toCRR:
			p.to = toCRR
			if local == "" {
				local = name
			}
		default:
			if main == "" {
				main, mainAt = name, i+1
			}
		}
	}
	if p.to != toCRR {
		return nil
	}
	if mainAt > 0 {
		if main == "" {
			main = "a strong table"
		}
		return wire.NewError(wire.CodeSQLNotAllowed,
			"a transaction writes strong tables or conflict-free ones, not both: %s is in main, %s in crr; send two requests", main, local).At(mainAt)
	}
	if req.IdempotencyKey != "" {
		return wire.NewError(wire.CodeBadRequest,
			"an Idempotency-Key holds for writes to strong tables only: %s is conflict-free, and a repeat at another node would not know of the first", local)
	}
	return nil
}
