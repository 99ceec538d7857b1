package crr

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

// fileFormat is the version of the layout and of all blobs in the file.
const fileFormat = 2

// layout makes the tables of an empty file.
const layout = `
CREATE TABLE crr.__crr_self(one INTEGER PRIMARY KEY CHECK(one=1), format INTEGER NOT NULL, tenant TEXT NOT NULL, site INTEGER, file BLOB NOT NULL,
  hlc INTEGER NOT NULL, lseq INTEGER NOT NULL, schema INTEGER NOT NULL, collected BLOB NOT NULL);
CREATE TABLE crr.__crr_vv(site INTEGER PRIMARY KEY, hlc INTEGER NOT NULL);
CREATE TABLE crr.__crr_peer(site INTEGER PRIMARY KEY, file BLOB NOT NULL, vv BLOB NOT NULL, cursor INTEGER NOT NULL);
CREATE TABLE crr.__crr_tab(tid INTEGER PRIMARY KEY, name TEXT NOT NULL, since INTEGER NOT NULL, gone INTEGER NOT NULL);
CREATE TABLE crr.__crr_col(tid INTEGER NOT NULL, cid INTEGER NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, since INTEGER NOT NULL, gone INTEGER NOT NULL,
  dflt TEXT NOT NULL, PRIMARY KEY(tid,cid)) WITHOUT ROWID;
CREATE TABLE crr.__crr_inbox(part INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE crr.__crr_lost(id INTEGER PRIMARY KEY, file BLOB NOT NULL, tid INTEGER NOT NULL, k NOT NULL, what TEXT NOT NULL, value);
CREATE TABLE crr.__crr_salvaged(file BLOB PRIMARY KEY NOT NULL, hlc INTEGER NOT NULL) WITHOUT ROWID;
`

// FileID names one file of one site. A copy of a file that is to live beside it has another.
type FileID [16]byte

func (f FileID) String() string { return hex.EncodeToString(f[:]) }

func newFileID(random io.Reader) (FileID, error) {
	var f FileID
	if random == nil {
		random = rand.Reader
	}
	_, err := io.ReadFull(random, f[:])
	return f, err
}

// Identity is who a file is: its id, and the number that the strong schema gave to it.
type Identity struct {
	Tenant string
	File   FileID
	Site   SiteID // 0: none yet, or none any more
}

// self is the row of __crr_self.
type self struct {
	Identity
	hlc       HLC   // newest own transaction
	lseq      int64 // newest transaction of the file, merges too
	schema    uint64
	collected Vector // see Site.Collect
}

// FormatError is a file of another version of this package.
type FormatError struct{ Got int64 }

func (e *FormatError) Error() string {
	return fmt.Sprintf("crr: file of format %d; this version reads format %d", e.Got, fileFormat)
}

// ErrNotCRR is a file without our tables.
var ErrNotCRR = errors.New("crr: not a file of conflict-free tables")

func readSelf(c Conn) (self, error) {
	var me self
	found := false
	err := query(c, "SELECT format, tenant, site, file, hlc, lseq, schema, collected FROM crr.__crr_self", func(s Stmt) error {
		found = true
		if f := s.Column(0).Int(); f != fileFormat {
			return &FormatError{f}
		}
		me.Tenant = s.Column(1).Str()
		me.Site = SiteID(s.Column(2).Int())
		if copy(me.File[:], s.ColumnBytes(3)) != len(me.File) {
			return fmt.Errorf("%w: file id", ErrCorrupt)
		}
		me.hlc, me.lseq, me.schema = HLC(s.Column(4).Int()), s.Column(5).Int(), uint64(s.Column(6).Int())
		var err error
		me.collected, err = ParseVector(s.ColumnBytes(7))
		return err
	})
	if err == nil && !found {
		err = ErrNotCRR
	}
	return me, err
}

// vector is the file's whole vector: that of the others, and its own.
func readVector(c Conn, me self) (Vector, error) {
	v := Vector{}
	err := query(c, "SELECT site, hlc FROM crr.__crr_vv", func(s Stmt) error {
		v[SiteID(s.Column(0).Int())] = HLC(s.Column(1).Int())
		return nil
	})
	if me.Site != 0 && me.hlc > v[me.Site] {
		v[me.Site] = me.hlc
	}
	return v, err
}

// Kinds of columns in __crr_col, beside those of schema.Kind: of the key, by class.
const (
	kindKey   = "key "      // and the class
	kindRowID = "key rowid" // INTEGER PRIMARY KEY
)

func keyKind(t *schema.Table, i int) string {
	if t.RowIDKey {
		return kindRowID
	}
	return kindKey + t.Key[i].Class.String()
}

// keyIDs is where ids of key columns begin in __crr_col: above all others, which they are never told from by peers.
const keyIDs = 1 << 32

// storeTable writes a table's description.
func storeTable(c Conn, t *schema.Table) error {
	put := func(sql string, args ...wire.Value) error { return query(c, sql, nil, args...) }
	id := wire.Integer(int64(t.ID))
	if err := put("INSERT OR REPLACE INTO crr.__crr_tab VALUES(?,?,?,?)", id, wire.Text(t.Name), wire.Integer(int64(t.Since)), wire.Integer(int64(t.Gone))); err != nil {
		return err
	}
	const col = "INSERT OR REPLACE INTO crr.__crr_col VALUES(?,?,?,?,?,?,?)"
	for i, k := range t.Key {
		if err := put(col, id, wire.Integer(keyIDs+int64(i)), wire.Text(k.Name), wire.Text(keyKind(t, i)), wire.Integer(int64(t.Since)), wire.Integer(0), wire.Text("")); err != nil {
			return err
		}
	}
	for _, x := range t.Columns {
		if err := put(col, id, wire.Integer(int64(x.ID)), wire.Text(x.Name), wire.Text(x.Kind.String()), wire.Integer(int64(x.Since)), wire.Integer(int64(x.Gone)), wire.Text(x.Default)); err != nil {
			return err
		}
	}
	return nil
}

// readState reads the schema back.
func readState(c Conn, version uint64) (*schema.State, error) {
	st := &schema.State{Version: version}
	err := query(c, "SELECT tid, name, since, gone FROM crr.__crr_tab ORDER BY tid", func(s Stmt) error {
		st.Tables = append(st.Tables, &schema.Table{ID: uint32(s.Column(0).Int()), Name: s.Column(1).Str(), Since: uint64(s.Column(2).Int()), Gone: uint64(s.Column(3).Int())})
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = query(c, "SELECT tid, cid, name, kind, since, gone, dflt FROM crr.__crr_col ORDER BY tid, cid", func(s Stmt) error {
		t := st.ByID(uint32(s.Column(0).Int()))
		if t == nil {
			return fmt.Errorf("%w: column of no table", ErrCorrupt)
		}
		return readColumn(t, s)
	})
	if err != nil {
		return nil, err
	}
	err = query(c, "SELECT type, name, tbl_name FROM crr.sqlite_schema WHERE type IN ('view','index') AND sql IS NOT NULL ORDER BY rowid", func(s Stmt) error {
		if s.Column(0).Str() == "view" {
			st.Views = append(st.Views, s.Column(1).Str())
		} else {
			st.Indexes = append(st.Indexes, schema.Index{Name: s.Column(1).Str(), Table: s.Column(2).Str()})
		}
		return nil
	})
	return st, err
}

func readColumn(t *schema.Table, s Stmt) error {
	name, kind := s.Column(2).Str(), s.Column(3).Str()
	switch kind {
	case kindRowID:
		t.Key, t.RowIDKey = append(t.Key, schema.KeyColumn{Name: name, Class: schema.KeyInteger}), true
		return nil
	case schema.LWW.String(), schema.Counter.String():
		k := schema.LWW
		if kind == schema.Counter.String() {
			k = schema.Counter
		}
		t.Columns = append(t.Columns, schema.Column{ID: uint32(s.Column(1).Int()), Name: name, Kind: k, Since: uint64(s.Column(4).Int()), Gone: uint64(s.Column(5).Int()), Default: s.Column(6).Str()})
		return nil
	}
	for _, class := range []schema.KeyClass{schema.KeyInteger, schema.KeyText, schema.KeyBlob} {
		if kind == kindKey+class.String() {
			t.Key = append(t.Key, schema.KeyColumn{Name: name, Class: class})
			return nil
		}
	}
	return fmt.Errorf("%w: column of kind %q", ErrCorrupt, kind)
}
