// Package library makes up the sample database. The same seed always gives the
// same bytes.
package library

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"
)

// How much there is of each.
const (
	authorCount = 300
	bookCount   = 1500
	copyCount   = 2600
	memberCount = 600
	loanCount   = 5000
)

// perInsert is how many rows one INSERT has.
const perInsert = 100

// Write writes the dump.
func Write(out io.Writer) error {
	g := &generator{
		rng: rand.New(rand.NewPCG(1815, 12)), // any numbers would do, as long as they stay
		out: bufio.NewWriter(out),
	}
	g.text("-- A small library, made up by scripts/sample/gen. Public domain (CC0).\n")
	g.text("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n")
	g.text(tables)
	g.genres()
	g.authors()
	g.books()
	g.copies()
	g.members()
	g.loans()
	g.text(rest)
	g.text("COMMIT;\n")
	if g.err != nil {
		return g.err
	}
	return g.out.Flush()
}

type generator struct {
	rng  *rand.Rand
	out  *bufio.Writer
	err  error
	born []int // by author
}

func (g *generator) text(s string) {
	if g.err == nil {
		_, g.err = g.out.WriteString(s)
	}
}

// rows writes n rows of a table; row gives the values of one as SQL.
func (g *generator) rows(table string, n int, row func(id int) string) {
	for id := 1; id <= n; id++ {
		switch {
		case id%perInsert == 1:
			g.text("INSERT INTO " + table + " VALUES\n")
		default:
			g.text(",\n")
		}
		g.text("(" + row(id) + ")")
		if id%perInsert == 0 || id == n {
			g.text(";\n")
		}
	}
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func pick[T any](g *generator, list []T) T { return list[g.rng.IntN(len(list))] }

// few gives a number below n, small ones more often: some books are read by everyone.
func (g *generator) few(n int) int {
	f := g.rng.Float64()
	return int(f * f * float64(n))
}

func (g *generator) name() string { return pick(g, givenNames()) + " " + pick(g, familyNames()) }

func day(t time.Time) string { return quote(t.Format(time.DateOnly)) }

func date(year, month, day int) time.Time {
	return time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
}

func (g *generator) genres() {
	list := genres()
	g.rows("genres", len(list), func(id int) string { return fmt.Sprintf("%d,%s", id, quote(list[id-1])) })
}

func (g *generator) authors() {
	g.rows("authors", authorCount, func(id int) string {
		born := 1800 + g.rng.IntN(195)
		g.born = append(g.born, born)
		return fmt.Sprintf("%d,%s,%d,%s", id, quote(g.name()), born, quote(pick(g, countries())))
	})
}

func (g *generator) title() string {
	a, n := pick(g, adjectives()), pick(g, nouns())
	switch g.rng.IntN(9) {
	case 0:
		return "The " + a + " " + n
	case 1:
		return a + " " + n
	case 2:
		return "The " + n + " of " + pick(g, familyNames())
	case 3:
		return "The " + pick(g, people()) + "'s " + n
	case 4:
		return n + " and " + pick(g, nouns())
	case 5:
		return "A " + pick(g, people()) + " at the " + n
	case 6:
		return "Letters to a " + a + " " + pick(g, people())
	case 7:
		return "The " + a + " " + pick(g, people())
	}
	return "Beyond the " + a + " " + n
}

func (g *generator) books() {
	g.rows("books", bookCount, func(id int) string {
		author := g.few(authorCount)
		year := min(g.born[author]+22+g.rng.IntN(45), 2025)
		rating := "NULL"
		if g.rng.IntN(5) > 0 {
			rating = fmt.Sprintf("%d.%d", 2+g.rng.IntN(3), g.rng.IntN(10))
		}
		return fmt.Sprintf("%d,%s,%d,%d,%d,%d,%s", id, quote(g.title()), author+1, 1+g.few(len(genres())), year, 60+g.rng.IntN(740), rating)
	})
}

func (g *generator) copies() {
	g.rows("copies", copyCount, func(id int) string {
		book := id
		if id > bookCount { // each book has a copy, some have more
			book = 1 + g.few(bookCount)
		}
		bought := date(2005, 1, 1).AddDate(0, 0, g.rng.IntN(18*365))
		return fmt.Sprintf("%d,%d,'%c-%02d',%s,x'%016x'", id, book, 'A'+rune(g.rng.IntN(6)), 1+g.rng.IntN(40), day(bought), g.rng.Uint64())
	})
}

func (g *generator) members() {
	g.rows("members", memberCount, func(id int) string {
		name := g.name()
		joined := date(2015, 1, 1).AddDate(0, 0, g.rng.IntN(9*365))
		return fmt.Sprintf("%d,%s,'member%d@library.example',%s,%s", id, quote(name), id, quote(pick(g, towns())), day(joined))
	})
}

// loans gives each copy loans that don't overlap; the newest of some are open.
func (g *generator) loans() {
	free := make([]time.Time, copyCount) // when the copy is back; zero when it is out
	for i := range free {
		free[i] = date(2023, 7, 1).AddDate(0, 0, g.rng.IntN(200))
	}
	end := date(2025, 7, 1)
	g.rows("loans", loanCount, func(id int) string {
		at := g.few(copyCount)
		for free[at].IsZero() || !free[at].Before(end) {
			at = (at + 1) % copyCount
		}
		lent := free[at].AddDate(0, 0, g.rng.IntN(30))
		if !lent.Before(end) {
			lent = end.AddDate(0, 0, -1)
		}
		due := lent.AddDate(0, 0, 28)
		back := lent.AddDate(0, 0, 3+g.few(45))
		returned := day(back)
		if back.Before(end) && g.rng.IntN(40) > 0 {
			free[at] = back.AddDate(0, 0, 1)
		} else {
			returned, free[at] = "NULL", time.Time{}
		}
		return fmt.Sprintf("%d,%d,%d,%s,%s,%s", id, at+1, 1+g.few(memberCount), day(lent), day(due), returned)
	})
}
