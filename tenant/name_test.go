package tenant

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestParseName(t *testing.T) {
	for _, ok := range []string{"a", "0", "a-b", "acme-2", strings.Repeat("x", 63)} {
		if n, err := ParseName(ok); err != nil || string(n) != ok {
			t.Errorf("ParseName(%q) = %q, %v", ok, n, err)
		}
	}
	for bad, want := range map[string]string{
		"":                      "is empty",
		"-a":                    "begins with '-'",
		"a-":                    "ends with '-'",
		"A":                     `upper-case letter 'A' at position 1`,
		"a_b":                   `'_' at position 2`,
		"a.b":                   `'.' at position 2`,
		"ä":                     `'ä' at position 1`,
		"a\x00":                 `'\x00' at position 2`,
		"../x":                  `'.' at position 1`,
		strings.Repeat("x", 64): "has 64 bytes, at most 63",
		"system":                "is reserved",
		"a\xff":                 "at position 2",
	} {
		_, err := ParseName(bad)
		var ne *NameError
		if !errors.As(err, &ne) || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseName(%q): got %v, want %q", bad, err, want)
		}
	}
	if _, err := ParseAnyName("system"); err != nil {
		t.Error(err)
	}
	_, err := ParseName(strings.Repeat("y", 1<<20))
	if len(err.Error()) > 400 {
		t.Errorf("the error repeats a name of 1 MiB: %d bytes", len(err.Error()))
	}
}

func TestNewID(t *testing.T) {
	id, err := NewID(bytes.NewReader(bytes.Repeat([]byte{7}, 16)))
	if err != nil || id.String() != strings.Repeat("07", 16) {
		t.Fatalf("got %s, %v", id, err)
	}
	if _, err := NewID(bytes.NewReader(make([]byte, 15))); err == nil {
		t.Error("15 bytes made an id")
	}
	if _, err := NewID(bytes.NewReader(make([]byte, 64))); err == nil {
		t.Error("zeros made an id")
	}
	// Zero is passed over once.
	id, err = NewID(bytes.NewReader(append(make([]byte, 16), bytes.Repeat([]byte{8}, 16)...)))
	if err != nil || id.IsZero() {
		t.Errorf("got %s, %v", id, err)
	}
}
