package sqlnode

// simSchema is that of each tenant that lives as long as the run.
var simSchema = []string{
	`CREATE TABLE list(k TEXT PRIMARY KEY NOT NULL, v TEXT NOT NULL) STRICT`,
	`CREATE TABLE counter(k TEXT PRIMARY KEY NOT NULL, n INTEGER NOT NULL) STRICT`,
	`CREATE TABLE row(k TEXT PRIMARY KEY NOT NULL, v TEXT NOT NULL) STRICT`,
	`CREATE TABLE ballast(k INTEGER PRIMARY KEY, v BLOB)`,
}

const (
	simAppendSQL = `INSERT INTO list VALUES(?1, ?2) ON CONFLICT(k) DO UPDATE SET v = v || ',' || excluded.v RETURNING v`
	simReadSQL   = `SELECT v FROM list WHERE k = ?1`
)

type simStatement struct {
	SQL  string `json:"sql"`
	Args []any  `json:"args"`
}

// simStatements is the SQL of an op.
func simStatements(o *simOp) []simStatement {
	k := o.key.name()
	one := func(sql string, args ...any) []simStatement {
		return []simStatement{{sql, append([]any{k}, args...)}}
	}
	both := func(sql string, args ...any) []simStatement {
		return []simStatement{{sql, append([]any{k + ".a"}, args...)}, {sql, append([]any{k + ".b"}, args...)}}
	}
	write := o.verb == simAppend
	switch o.key.kind {
	case simList:
		if write {
			return one(simAppendSQL, o.value)
		}
		return one(simReadSQL)
	case simPair:
		if write {
			return both(simAppendSQL, o.value)
		}
		return both(simReadSQL)
	case simCounter:
		if o.verb == simAdd {
			return one(`INSERT INTO counter VALUES(?1, 1) ON CONFLICT(k) DO UPDATE SET n = n + 1 RETURNING n`)
		}
		return one(`SELECT n FROM counter WHERE k = ?1`)
	case simTenant:
		if write {
			return []simStatement{{`CREATE TABLE IF NOT EXISTS list(k TEXT PRIMARY KEY NOT NULL, v TEXT NOT NULL) STRICT`, []any{}}, {simAppendSQL, []any{"k", o.value}}}
		}
		return []simStatement{{simReadSQL, []any{"k"}}}
	}
	switch o.verb {
	case simCreate:
		return one(`INSERT INTO row VALUES(?1, ?2)`, o.value)
	case simSwap:
		return one(`UPDATE row SET v = ?2 WHERE k = ?1 AND v = ?3`, o.value, o.old)
	case simRemove:
		return one(`DELETE FROM row WHERE k = ?1`)
	}
	return one(`SELECT v FROM row WHERE k = ?1`)
}
