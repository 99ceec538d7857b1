package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nearsql/nearsql/wire"
)

// allowFiles sets how many files a node's process may have open, and returns how many it has.
func (n *node) allowFiles(files func(open int) uint64) {
	n.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	l := unix.Rlimit{}
	if err := unix.Prlimit(n.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &l); err != nil {
		n.t.Fatal(err)
	}
	l.Cur = files(len(list))
	if err := unix.Prlimit(n.cmd.Process.Pid, unix.RLIMIT_NOFILE, &l, nil); err != nil {
		n.t.Fatal(err)
	}
}

// TestDescriptors takes all file descriptors from a node: what needs one is refused as OVERLOADED, or waits for a connection; what has what it
// needs goes on, writes and their log too; and when there are some again everything is as before.
func TestDescriptors(t *testing.T) {
	t.Parallel()
	n := startNode(t, hasty...)
	const cold = 12
	name := func(i int) string { return fmt.Sprintf("cold-%d", i) }
	for i := range cold {
		n.create(name(i))
		n.mustRows(name(i), "CREATE TABLE t(v)")
		n.mustRows(name(i), "CREATE TABLE crr.k(id TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0)")
		n.mustRows(name(i), "INSERT INTO t VALUES(7)")
	}
	n.create("hot")
	n.mustRows("hot", "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
	n.restart()
	c := newHTTP() // one connection, read to the end each time: another could not be had
	reused := 0
	ask := func(tenant, sql string) (wire.Code, error) {
		ctx, cancel := context.WithTimeout(t.Context(), answerMax)
		defer cancel()
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
			if i.Reused {
				reused++
			}
		}})
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url+"/v1/tenants/"+tenant+"/sql", strings.NewReader(sql))
		if err != nil {
			return "", err
		}
		req.Header.Set("Authorization", "Bearer "+n.key)
		req.Header.Set("Content-Type", "application/sql")
		resp, err := c.Do(req)
		if err != nil {
			return "", fmt.Errorf("%s: %s, after %d on the same connection: %w", tenant, sql, reused, err)
		}
		defer resp.Body.Close()
		var answer struct {
			Code wire.Code `json:"code"`
		}
		b, err := io.ReadAll(resp.Body)
		if err == nil {
			err = json.Unmarshal(b, &answer)
		}
		return answer.Code, err
	}
	write := func(id int64) error {
		code, err := ask("hot", fmt.Sprintf("INSERT INTO t VALUES(%d, randomblob(400000))", id))
		if err == nil && code != "" {
			err = errors.New(string(code))
		}
		return err
	}
	if err := write(0); err != nil {
		t.Fatal(err)
	}
	n.allowFiles(func(open int) uint64 { return uint64(open - 4) })
	refused := 0
	for i := range cold {
		for _, sql := range []string{"SELECT v FROM t", "INSERT INTO k VALUES('a', 1)"} {
			switch code, err := ask(name(i), sql); {
			case err != nil:
				t.Fatal(err)
			case code == wire.CodeOverloaded:
				refused++
			case code != "" && code != wire.CodeTimeout && code != wire.CodeUnreachable:
				t.Errorf("%s, %s: %s", name(i), sql, code)
			}
		}
	}
	// The log goes from file to file meanwhile.
	rows := int64(0)
	for ; rows < 100; rows++ {
		if err := write(rows + 1); err != nil {
			t.Fatalf("write %d: %v", rows+1, err)
		}
	}
	if !n.runs() {
		t.Fatalf("the node ended: %s", n.logTail(2000))
	}
	if refused == 0 {
		t.Error("nothing was refused: the node had descriptors")
	}
	n.allowFiles(func(int) uint64 { return 1000 })
	for i := range cold {
		eventually(t, soonMax, name(i)+" answers", func() error {
			_, err := n.rows(name(i), "INSERT INTO t VALUES(9)")
			return err
		})
		if got := n.one(name(i), "SELECT count(*) FROM t WHERE v=7"); got.Int() != 1 {
			t.Errorf("%s: got %s rows", name(i), got)
		}
		n.mustRows(name(i), "INSERT INTO k VALUES('b', 1)")
	}
	for _, bad := range []string{"request failed", "out of service"} {
		for line := range strings.Lines(n.logText()) {
			if strings.Contains(line, bad) && !strings.Contains(line, "level=DEBUG") {
				t.Errorf("the log has %q", line)
			}
		}
	}
	t.Logf("%d requests were refused, %d rows written without descriptors", refused, rows)
	n.restart()
	if got := n.one("hot", "SELECT count(*) FROM t"); got.Int() != rows+1 {
		t.Errorf("after a restart: got %s rows, want %d", got, rows+1)
	}
}

// TestFewDescriptors runs a node with a small limit: it says that it keeps fewer tenants open, and serves many, one after the other.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	n := newNode(t, hasty...)
	n.files = 300
	n.start()
	if !strings.Contains(n.logText(), "few file descriptors: fewer tenants are kept open") {
		t.Error("the log does not tell of few descriptors")
	}
	const tenants = 80
	for i := range tenants {
		name := fmt.Sprintf("t-%d", i)
		n.create(name)
		n.mustRows(name, "CREATE TABLE t(v)")
	}
	for round := range 3 {
		for i := range tenants {
			eventually(t, soonMax, "a write", func() error {
				_, err := n.rows(fmt.Sprintf("t-%d", i), "INSERT INTO t VALUES(1)")
				return err
			})
			if got := n.one(fmt.Sprintf("t-%d", i), "SELECT count(*) FROM t"); got.Int() != int64(round+1) {
				t.Fatalf("got %s rows", got)
			}
		}
	}
}
