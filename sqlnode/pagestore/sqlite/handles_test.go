package sqlite

import "testing"

// A number is given again once its connection is closed.
func TestHandlesAreUsedAgain(t *testing.T) {
	one := func() {
		c, err := Open(":memory:", "", ReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		c.SetProgress(1, func() bool { return false })
		if handles.get(c.h) != c {
			t.Error("the connection is not found")
		}
		h := c.h
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if handles.get(h) != nil {
			t.Error("a closed connection is found")
		}
	}
	one()
	before := handles.mu.next
	for range 100 {
		one()
	}
	if got := handles.mu.next; got != before {
		t.Errorf("%d numbers given, %d before", got, before)
	}
	for _, h := range []handle{0, before + 1, 1<<32 - 1} {
		if handles.get(h) != nil {
			t.Errorf("%d stands for a connection", h)
		}
	}
}

// What a connection took outside of the Go heap for functions and bindings
// doesn't outlive it, nor grow while functions are replaced.
func TestFunctionSlotsAreUsedAgain(t *testing.T) {
	c, err := Open(":memory:", "", ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 100 {
		if err := c.RegisterFunc("f", 0, 0, func(*Context, []Arg) {}); err != nil {
			t.Fatal(err)
		}
	}
	// The new one is registered before SQLite drops the old one.
	if n := len(c.functions.funcs); n > 2 {
		t.Errorf("%d slots", n)
	}
}
