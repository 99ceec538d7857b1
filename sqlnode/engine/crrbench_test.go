package engine

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/nearsql/nearsql/tenant"
)

// Local writes of one row, synced, from one client and from many; and what the attached file costs a read of main.
func BenchmarkConflictFree(b *testing.B) {
	r, _ := newCRRRig(b, Config{})
	tn := r.create(1, tenant.Limits{InFlight: 1000})
	r.exec(tn, "CREATE TABLE posts(id INTEGER PRIMARY KEY, a)")
	r.exec(tn, "INSERT INTO posts VALUES(1,2)")
	b.Run("read main, no conflict-free tables", func(b *testing.B) {
		for b.Loop() {
			r.ok(tn, one("SELECT a FROM posts WHERE id=1"))
		}
	})
	r.exec(tn, createLikes)
	b.Run("read main, attached", func(b *testing.B) {
		for b.Loop() {
			r.ok(tn, one("SELECT a FROM posts WHERE id=1"))
		}
	})
	const upsert = "INSERT INTO likes(post,n) VALUES(?,1) ON CONFLICT(post) DO UPDATE SET n=n+excluded.n"
	b.Run("write, one client", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			r.ok(tn, one(upsert, fmt.Sprint(i%1000)))
		}
	})
	b.Run("read a conflict-free row", func(b *testing.B) {
		for b.Loop() {
			r.ok(tn, one("SELECT n FROM likes WHERE post='1'"))
		}
	})
	b.Run("write, 64 clients", func(b *testing.B) {
		var n atomic.Int64
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r.ok(tn, one(upsert, fmt.Sprint(n.Add(1)%1000)))
			}
		})
	})
}
