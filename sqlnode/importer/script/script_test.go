package script

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func texts(t testing.TB, r *Reader) ([]string, []int, error) {
	t.Helper()
	var out []string
	var lines []int
	for {
		st, err := r.Next()
		if err == io.EOF {
			return out, lines, nil
		}
		if err != nil {
			return out, lines, err
		}
		out, lines = append(out, st.Text), append(lines, st.Line)
	}
}

func TestReader(t *testing.T) {
	for _, c := range []struct {
		in    string
		want  []string
		lines []int
	}{
		{"", nil, nil},
		{" ;;\n-- x;\n/* ; */ ;", nil, nil},
		{"select 1;select 2", []string{"select 1;", "select 2"}, []int{1, 1}},
		{"-- first\n\nselect ';' -- ;\n, \";\", `;`, [;] /* ; */;\n\nselect 2;",
			[]string{"select ';' -- ;\n, \";\", `;`, [;] /* ; */;", "select 2;"}, []int{3, 6}},
		{"select 'it''s; ok';x;", []string{"select 'it''s; ok';", "x;"}, []int{1, 1}},
		{"create trigger t after insert on a begin\n select case when 1 then 2 end;\n update b set x=';';\nend;\nselect 1;",
			[]string{"create trigger t after insert on a begin\n select case when 1 then 2 end;\n update b set x=';';\nend;", "select 1;"}, []int{1, 5}},
		{"CREATE TEMP TRIGGER t BEGIN; END /* x */ ; s;", []string{"CREATE TEMP TRIGGER t BEGIN; END /* x */ ;", "s;"}, []int{1, 1}},
		{"explain query plan create trigger x begin a; end; b;", []string{"explain query plan create trigger x begin a; end;", "b;"}, []int{1, 1}},
		{"create table trigger_x(a); b;", []string{"create table trigger_x(a);", "b;"}, []int{1, 1}},
		{"create table t(a); end;", []string{"create table t(a);", "end;"}, []int{1, 1}},
		{"select 1 - -1 / 2; - ; /", []string{"select 1 - -1 / 2;", "- ;", "/"}, []int{1, 1, 1}},
		{"select 5--4;\n;", []string{"select 5--4;\n;"}, []int{1}},
		{"/**/select 1;/***/select 2;", []string{"select 1;", "select 2;"}, []int{1, 1}},
		{"select 'ü'; é;", []string{"select 'ü';", "é;"}, []int{1, 1}},
		{"select 1 -- end", []string{"select 1 -- end"}, []int{1}},
		{"BEGIN; COMMIT;", []string{"BEGIN;", "COMMIT;"}, []int{1, 1}},
	} {
		for name, r := range map[string]io.Reader{
			"whole":  strings.NewReader(c.in),
			"single": iotest.OneByteReader(strings.NewReader(c.in)),
			"eof":    iotest.DataErrReader(strings.NewReader(c.in)),
		} {
			got, lines, err := texts(t, NewReader(r, 1000))
			if err != nil || !slices.Equal(got, c.want) || !slices.Equal(lines, c.lines) {
				t.Errorf("%s %q:\ngot  %q %v, %v\nwant %q %v", name, c.in, got, lines, err, c.want, c.lines)
			}
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	for _, in := range []string{"select 'a", "select \"", "x [", "\n/* ", "create trigger t begin select 1;", "a; /* *"} {
		_, _, err := texts(t, NewReader(strings.NewReader(in), 1000))
		var open *OpenError
		if !errors.As(err, &open) {
			t.Errorf("%q: got %v, want an OpenError", in, err)
		}
	}
	_, _, err := texts(t, NewReader(strings.NewReader("a;\nselect '"+strings.Repeat("x", 1<<20)), 1000))
	var long *TooLongError
	if !errors.As(err, &long) || long.Line != 2 {
		t.Errorf("got %v, want a TooLongError of line 2", err)
	}
	boom := errors.New("boom")
	_, _, err = texts(t, NewReader(io.MultiReader(strings.NewReader("a;\nb"), iotest.ErrReader(boom)), 1000))
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v", err)
	}
}

func TestPending(t *testing.T) {
	var s Splitter
	for _, c := range []struct {
		line string
		want bool
	}{
		{"  -- nothing\n", false}, {"select\n", true}, {" 1;\n", false}, {"/* open\n", true}, {"*/\n", false},
		{"create trigger x begin\n", true}, {"select 1;\n", true}, {"end;\n", false},
	} {
		s.Feed([]byte(c.line))
		if s.Pending() != c.want {
			t.Errorf("after %q: pending is %v", c.line, s.Pending())
		}
	}
	s.Feed([]byte("select '"))
	s.Drop()
	if s.Pending() {
		t.Error("pending after Drop")
	}
}

func TestLineAt(t *testing.T) {
	s := Statement{Text: "select\n1,\n x;", Line: 5}
	for offset, want := range map[int]int{-1: 5, 0: 5, 7: 6, 11: 7, 99: 5} {
		if got := s.LineAt(offset); got != want {
			t.Errorf("LineAt(%d) = %d, want %d", offset, got, want)
		}
	}
}

func FuzzSplitter(f *testing.F) {
	f.Add("select 1;create trigger t begin select ';'; end; -- x\n/* y */ [z]; 'q", 3)
	f.Fuzz(func(t *testing.T, in string, cut int) {
		whole, _, err1 := texts(t, NewReader(strings.NewReader(in), 1<<20))
		if cut < 0 || cut > len(in) {
			cut = 0
		}
		parts, _, err2 := texts(t, NewReader(io.MultiReader(strings.NewReader(in[:cut]), strings.NewReader(in[cut:])), 1<<20))
		if !slices.Equal(whole, parts) || (err1 == nil) != (err2 == nil) {
			t.Fatalf("cut at %d: %q %v, whole: %q %v", cut, parts, err2, whole, err1)
		}
		rest := in
		for _, st := range whole {
			i := strings.Index(rest, st)
			if i < 0 {
				t.Fatalf("%q is not in order in %q", st, in)
			}
			rest = rest[i+len(st):]
		}
	})
}
