package sqldriver_test

import (
	"testing"

	"github.com/nearsql/nearsql/wire"
)

// BenchmarkWeakRead reads a row by its key: through the driver on a node that follows, through the driver on the primary, and
// by Node.Execute on each, all in one process.
func BenchmarkWeakRead(b *testing.B) {
	s := edge(b)
	defer s.close()
	s.net.HealAll()
	primary := s.primary()
	far := s.up["n4"].open(b)
	for i := range 1000 {
		if i%100 == 0 {
			exec(b, far, "insert into t with recursive n(i) as (select ? union all select i + 1 from n where i < ? + 99) select i, 'row ' || i from n", i, i)
		}
	}
	for _, on := range []struct{ name, id string }{{"replica", "n4"}, {"primary", primary}} {
		db := s.up[on.id].open(b)
		b.Run("driver/"+on.name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				var y string
				if err := db.QueryRowContext(b.Context(), "select y from t where x = ?", i%1000).Scan(&y); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("execute/"+on.name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				req := &wire.Request{Statements: []wire.Statement{{SQL: "select y from t where x = ?", Args: []wire.Value{wire.Integer(int64(i % 1000))}}}}
				if m, err := s.up[on.id].Execute(b.Context(), "acme", req, discard{}); err != nil || m.Node != on.id {
					b.Fatal(m.Node, err)
				}
			}
		})
	}
}
