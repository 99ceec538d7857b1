package main

import (
	"fmt"
	"testing"
)

var contenders = []string{"nearsql", "nearsql-apart", "sqlite-off", "sqlite-normal", "sqlite-full"}

func TestContendersDoTheWork(t *testing.T) {
	for _, name := range contenders {
		t.Run(name, func(t *testing.T) {
			x, err := openContender(name, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer x.close()
			var c crew
			if err := c.grow(x, 4); err != nil {
				t.Fatal(err)
			}
			if _, err := c.work(4, 200, client.insert); err != nil {
				t.Fatal(err)
			}
			if _, err := c.work(2, 200, client.read); err != nil {
				t.Fatal(err)
			}
			if n := c.next.Load(); n != 400 {
				t.Errorf("%d operations were done, want 400", n)
			}
		})
	}
}

// benchmark runs do with each number of clients. Run one contender per process for numbers that
// mean something: the engine's page cache is the whole process's.
func benchmark(b *testing.B, clients []int, do func(client, int) error) {
	for _, name := range contenders {
		for _, n := range clients {
			b.Run(fmt.Sprintf("%s/clients=%d", name, n), func(b *testing.B) {
				x, err := openContender(name, b.TempDir())
				if err != nil {
					b.Fatal(err)
				}
				defer x.close()
				var c crew
				if err := c.grow(x, n); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.ResetTimer()
				if _, err := c.work(n, b.N, do); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
			})
		}
	}
}

func BenchmarkInsert(b *testing.B) { benchmark(b, []int{1, 16}, client.insert) }

func BenchmarkRead(b *testing.B) { benchmark(b, []int{1, 2}, client.read) }
