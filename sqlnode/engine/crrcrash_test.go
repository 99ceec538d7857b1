package engine

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/tenant"
)

// crashDirEnv makes TestKilledLocalWrites the child that writes until it is killed.
const crashDirEnv = "NEARSQL_TEST_CRR_CRASH"

// Local writes that were answered outlive kill -9, also those that shared a transaction.
func TestKilledLocalWrites(t *testing.T) {
	if dir := os.Getenv(crashDirEnv); dir != "" {
		writeUntilKilled(t, dir)
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledLocalWrites$")
	cmd.Env = append(os.Environ(), crashDirEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := map[int]bool{}
	path := ""
	for sc := bufio.NewScanner(out); sc.Scan(); {
		n, err := strconv.Atoi(sc.Text())
		if err != nil {
			path = sc.Text()
			continue
		}
		said[n] = true
		if len(said) == 300 {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	if len(said) < 300 {
		t.Fatalf("the child said %d writes only", len(said))
	}
	c, err := sqlite.Open(":memory:", "", sqlite.ReadWrite|sqlite.Create|sqlite.URI)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	uri := sqlite.FileURI(path, "vfs=unix")
	if err := c.Exec("ATTACH '" + uri + "' AS crr"); err != nil {
		t.Fatal(err)
	}
	rd := crr.OpenReader(crrfiles.Adapt(c))
	defer rd.Close()
	ts, err := rd.Check()
	if err != nil || len(ts) != 1 || len(ts[0].Faults) > 0 {
		t.Fatalf("%+v %v", ts, err)
	}
	st, _, err := c.Prepare("SELECT post, n FROM likes", false)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Finalize()
	there, total := 0, int64(0)
	for {
		row, err := st.Step()
		if err != nil {
			t.Fatal(err)
		}
		if !row {
			break
		}
		n, err := strconv.Atoi(st.Column(0).Str())
		if err != nil {
			total = st.Column(1).Int()
			continue
		}
		there++
		delete(said, n)
	}
	if len(said) > 0 || total != int64(there) {
		t.Fatalf("%d writes are lost that were answered; %d rows, counter %d", len(said), there, total)
	}
	t.Logf("%d rows", there)
}

func writeUntilKilled(t *testing.T, dir string) {
	r, m := newCRRRigAt(t, dir, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, createLikes)
	fmt.Println(filepath.Clean(m.Path(tn.ID())))
	var wg sync.WaitGroup
	end := time.Now().Add(20 * time.Second)
	for c := range 8 {
		wg.Go(func() {
			for i := c; time.Now().Before(end); i += 8 {
				r.do(tn, batch(fmt.Sprintf("INSERT INTO likes(post) VALUES('%d')", i), "INSERT INTO likes(post,n) VALUES('sum',1) ON CONFLICT(post) DO UPDATE SET n=n+1"))
				fmt.Println(i)
			}
		})
	}
	wg.Wait()
}
