package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestQuickstart is the command of README.md, with the binary as people build it.
func TestQuickstart(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the binary")
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	var out bytes.Buffer
	if err := run(t.Context(), &out, "127.0.0.1:0", false); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"1500   2600    600      5000", "Letters to a Crooked Translator", "this copy is lent already", "sees 601 members, Ada Byron among them", "To go on"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "nearsql*")); len(left) != 0 {
		t.Errorf("it left %q", left)
	}
}

// TestKeep plays Ctrl-C after a while: the node answers until then, and ends.
func TestKeep(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the binary")
	}
	t.Setenv("TMPDIR", t.TempDir())
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, w, "127.0.0.1:0", true)
		w.Close()
		done <- err
	}()
	said := ""
	buf := make([]byte, 4096)
	for !strings.Contains(said, "args") {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatalf("%v\n%s", <-done, said)
		}
		said += string(buf[:n])
	}
	go io.Copy(io.Discard, r)
	url := regexp.MustCompile(`serves at (\S+)\.\n`).FindStringSubmatch(said)[1]
	key, err := os.ReadFile(regexp.MustCompile(`cat (\S+/root\.key)`).FindStringSubmatch(said)[1])
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, url+"/v1/tenants/library/sql", strings.NewReader(`{"sql":"SELECT count(*) FROM books"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != 200 || !strings.Contains(string(b), `"rows":[[1500]]`) {
		t.Errorf("got %d, %s, %v", resp.StatusCode, b, err)
	}
	interrupt()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
