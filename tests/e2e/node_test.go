package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// Bounds of what a node may take when two busy cores are shared, by a machine that is several times slower. They say when a test gives up, and not
// what is promised; a test that passes waits for none of them.
const (
	startMax = 3 * time.Minute // from the process's start to its first request
	stopMax  = 3 * time.Minute // from SIGTERM to the process's end
	soonMax  = 2 * time.Minute // until what goes on by itself is done
	// from a request's end to its answer's beginning; imports have longer
	answerMax = time.Minute
)

// node is one nearsql serve in a process of its own.
type node struct {
	t     testing.TB
	dir   string // its data directory
	cwd   string // where its process is started, with the data directory relative to it; "" for here, and the whole path
	flags []string
	env   []string
	// patient: it is one of several, and what is asked of it while they elect a primary is asked again.
	patient bool
	files   int // how many files the process may open at most; 0 for as many as this one
	url     string
	key     string
	*client.Client

	cmd   *exec.Cmd
	log   string // file of its standard error, of all its processes
	ended chan struct{}
	state *os.ProcessState // when ended is closed
}

// newNode prepares a node with a data directory of its own; start runs it.
func newNode(t testing.TB, flags ...string) *node {
	t.Helper()
	return nodeIn(t, filepath.Join(t.TempDir(), "data"), flags...)
}

func nodeIn(t testing.TB, dir string, flags ...string) *node {
	n := &node{t: t, dir: dir, flags: flags, log: filepath.Join(t.TempDir(), "node.log")}
	t.Cleanup(func() {
		if t.Failed() && n.cmd != nil {
			_ = n.cmd.Process.Signal(syscall.SIGQUIT) // for what its goroutines do
			late := time.NewTimer(5 * time.Second)
			defer late.Stop()
			select {
			case <-n.ended:
			case <-late.C:
			}
		}
		n.kill()
		if t.Failed() {
			n.keepLog()
		}
	})
	return n
}

// startNode is newNode and start.
func startNode(t testing.TB, flags ...string) *node {
	t.Helper()
	n := newNode(t, flags...)
	n.start()
	return n
}

// launch starts the process, and returns a channel that gets its address once it serves.
func (n *node) launch() <-chan string {
	n.t.Helper()
	args := append([]string{"serve", "--data-dir", n.dataDir(), "--listen", "127.0.0.1:0"}, n.flags...)
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	argv := append([]string{binary}, args...)
	if n.files > 0 {
		argv = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, n.files)}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr, cmd.Dir = log, n.cwd
	cmd.Env = append(os.Environ(), n.env...)
	cmd.SysProcAttr = childAttr()
	out, w, err := os.Pipe()
	if err != nil {
		n.t.Fatal(err)
	}
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	w.Close()
	ended := make(chan struct{})
	n.cmd, n.ended, n.state = cmd, ended, nil
	go func() {
		_ = cmd.Wait()
		n.state = cmd.ProcessState
		close(ended)
	}()
	address := make(chan string, 1)
	go func() {
		defer out.Close()
		s := bufio.NewScanner(out)
		for s.Scan() {
			if _, rest, ok := strings.Cut(s.Text(), "nearsql serves at "); ok {
				url, _, _ := strings.Cut(rest, ",")
				select {
				case address <- url:
				default:
				}
			}
		}
	}()
	return address
}

// dataDir is the data directory as the process is told it.
func (n *node) dataDir() string {
	if n.cwd == "" {
		return n.dir
	}
	rel, err := filepath.Rel(n.cwd, n.dir)
	if err != nil {
		n.t.Fatal(err)
	}
	return rel
}

// start runs the node until it serves.
func (n *node) start() {
	n.t.Helper()
	if err := n.tryStart(); err != nil {
		n.t.Fatalf("start node: %v\n%s", err, n.logTail(4000))
	}
}

// tryStart runs the node until it serves, or its process has ended.
func (n *node) tryStart() error {
	address := n.launch()
	late := time.NewTimer(startMax)
	defer late.Stop()
	select {
	case n.url = <-address:
	case <-n.ended:
		return fmt.Errorf("it ended with exit code %d before it served", n.state.ExitCode())
	case <-late.C:
		n.kill()
		return fmt.Errorf("it does not serve after %s", startMax)
	}
	b, err := os.ReadFile(filepath.Join(n.dir, "root.key"))
	if err != nil {
		return err
	}
	n.key = strings.TrimSpace(string(b))
	if n.Client != nil {
		n.CloseIdle()
	}
	n.Client, err = client.New(n.url, client.Options{Token: n.key, MaxAnswer: 1 << 30, HTTP: newHTTP()})
	return err
}

// newHTTP is a client with connections of its own.
func newHTTP() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64
	t.DisableCompression = true
	t.ResponseHeaderTimeout = answerMax
	return &http.Client{Transport: t}
}

// kill is kill -9, and waits for the end.
func (n *node) kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	<-n.ended
}

// stop is SIGTERM; it returns the exit code.
func (n *node) stop() int {
	n.t.Helper()
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	return n.wait(stopMax)
}

// wait returns the exit code of the process once it has ended.
func (n *node) wait(max time.Duration) int {
	n.t.Helper()
	late := time.NewTimer(max)
	defer late.Stop()
	select {
	case <-n.ended:
	case <-late.C:
		n.t.Fatalf("the node runs on after %s\n%s", max, n.logTail(4000))
	}
	return n.state.ExitCode()
}

// restart stops the node in order and starts it again.
func (n *node) restart() {
	n.t.Helper()
	if code := n.stop(); code != 0 {
		n.t.Fatalf("the node ended with exit code %d\n%s", code, n.logTail(4000))
	}
	n.start()
}

// watchdog makes the node say what it is at if the function returned is not called in time.
func (n *node) watchdog(max time.Duration) (stop func()) {
	p := n.cmd.Process
	timer := time.AfterFunc(max, func() { _ = p.Signal(syscall.SIGQUIT) })
	return func() { timer.Stop() }
}

// keepLog prints the end of the log of a test that failed, and keeps all of it.
func (n *node) keepLog() {
	text := n.logText()
	f, err := os.CreateTemp("", "nearsql-e2e-*.log")
	if err == nil {
		_, err = f.WriteString(text)
		f.Close()
		n.t.Logf("the whole log of the node: %s (%v)", f.Name(), err)
	}
	lines := strings.SplitAfter(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "SIGQUIT:") || strings.HasPrefix(l, "panic:") || strings.HasPrefix(l, "fatal error:") {
			lines = lines[:min(i+1, len(lines))]
			break
		}
	}
	n.t.Logf("the end of the node's log:\n%s", strings.Join(lines[len(lines)-min(len(lines), 30):], ""))
}

func (n *node) logText() string {
	b, _ := os.ReadFile(n.log)
	return string(b)
}

func (n *node) logTail(max int) string {
	s := n.logText()
	return s[len(s)-min(len(s), max):]
}

// memory is the process's resident memory, now and at most, in bytes.
func (n *node) memory() (now, peak int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if len(f) == 0 {
			continue
		}
		kb, _ := strconv.ParseInt(f[0], 10, 64)
		switch name {
		case "VmRSS":
			now = kb << 10
		case "VmHWM":
			peak = kb << 10
		}
	}
	return now, peak
}

// status is what /v1/status says, as far as tests ask.
type status struct {
	Ready   bool `json:"ready"`
	Tenants int  `json:"tenants"`
	Groups  []struct {
		ID          int   `json:"id"`
		Failed      int   `json:"failed_copies"`
		Checkpoints int64 `json:"checkpoints"`
	} `json:"groups"`
}

func (n *node) status() (status, error) {
	var st status
	raw, err := n.Client.Status(n.t.Context())
	if err == nil {
		err = json.Unmarshal(raw, &st)
	}
	return st, err
}

// metric is the value of a metric without labels.
func (n *node) metric(name string) float64 {
	n.t.Helper()
	a := n.do(http.MethodGet, "/metrics", nil)
	if a.status != http.StatusOK {
		n.t.Fatalf("metrics: %s", a)
	}
	for line := range strings.Lines(string(a.body)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			v, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				n.t.Fatal(err)
			}
			return v
		}
	}
	n.t.Fatalf("there is no metric %s", name)
	return 0
}

// create makes tenants.
func (n *node) create(names ...string) {
	n.t.Helper()
	for _, name := range names {
		if err := n.insist(func(again bool) error {
			_, err := n.CreateTenant(n.t.Context(), name, tenant.CreateOptions{})
			if again && codeOf(err) == wire.CodeTenantExists {
				err = nil
			}
			return err
		}); err != nil {
			n.t.Fatalf("create %s: %v", name, err)
		}
	}
}

// insist does what can be repeated, again and again if the node is patient and the error says that it may go well later, or not what became of it.
func (n *node) insist(do func(again bool) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for began, again := time.Now(), false; ; again = true {
		err := do(again)
		var e *wire.Error
		if err == nil || !n.patient || !lost(err) && (!errors.As(err, &e) || !e.Retryable) || time.Since(began) > electMax {
			return err
		}
		<-tick.C
	}
}

// rows runs one statement.
func (n *node) rows(tenant, sql string, args ...wire.Value) ([][]wire.Value, error) {
	r, _, err := n.Query(n.t.Context(), tenant, sql, args...)
	return r.Rows, err
}

// mustRows runs one statement that must go well.
func (n *node) mustRows(tenant, sql string, args ...wire.Value) [][]wire.Value {
	n.t.Helper()
	var rows [][]wire.Value
	var err error
	if n.patient {
		rows, _, err = n.once(tenant, sql, args...)
	} else {
		rows, err = n.rows(tenant, sql, args...)
	}
	if err != nil {
		n.t.Fatalf("%s: %.200s: %v", tenant, sql, err)
	}
	return rows
}

// once runs one statement that writes strong tables or makes tables, once, whatever becomes of primaries meanwhile.
func (n *node) once(tenant, sql string, args ...wire.Value) (rows [][]wire.Value, meta wire.Meta, err error) {
	r := &wire.Request{Statements: []wire.Statement{{SQL: sql, Args: args}}, IdempotencyKey: fmt.Sprintf("%d-%d", time.Now().UnixNano(), mathrand.Uint64())}
	err = n.insist(func(bool) error {
		results, m, err := n.Exec(n.t.Context(), tenant, r)
		if err == nil {
			rows, meta = results[0].Rows, m
		}
		return err
	})
	return rows, meta, err
}

// one runs a statement whose answer is one value.
func (n *node) one(tenant, sql string, args ...wire.Value) wire.Value {
	n.t.Helper()
	rows := n.mustRows(tenant, sql, args...)
	if len(rows) != 1 || len(rows[0]) != 1 {
		n.t.Fatalf("%s: %.200s: got %v, want one value", tenant, sql, rows)
	}
	return rows[0][0]
}

// reply is an answer over plain HTTP.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// code is the error code in the body; "" when it is none.
func (a reply) code() string {
	var e struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(a.body, &e)
	return e.Code
}

func (a reply) String() string { return fmt.Sprintf("%d %.600s", a.status, a.body) }

// do sends one request with the root key. Header fields come in pairs.
func (n *node) do(method, path string, body io.Reader, header ...string) reply {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), method, n.url+path, body)
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.key)
	for i := 0; i+1 < len(header); i += 2 {
		if header[i+1] == "" {
			req.Header.Del(header[i])
		} else {
			req.Header.Set(header[i], header[i+1])
		}
	}
	c := newHTTP()
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	if err != nil {
		n.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatalf("%s %s: %v", method, path, err)
	}
	return reply{resp.StatusCode, resp.Header, b}
}

// post sends JSON to a tenant's sql route.
func (n *node) post(tenant, query, body string, header ...string) reply {
	n.t.Helper()
	return n.do(http.MethodPost, "/v1/tenants/"+tenant+"/sql"+query, strings.NewReader(body), append([]string{"Content-Type", "application/json"}, header...)...)
}

// codeOf is the code of the node's error in err, or "" when it is none.
func codeOf(err error) wire.Code {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// lost says whether err leaves open what became of the request.
func lost(err error) bool {
	var u *client.UnreachableError
	var a *client.AnswerError
	return errors.As(err, &u) || errors.As(err, &a) || codeOf(err) == wire.CodeUnknownOutcome
}

// eventually asks until ok has no objection.
func eventually(t testing.TB, max time.Duration, what string, ok func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(max)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, max, err)
		}
		<-tick.C
	}
}

// prober writes to and reads from a tenant all the time, and notes what its users would.
type prober struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu struct {
		sync.Mutex
		requests int
		worst    time.Duration
		sum      time.Duration
		errors   []error
	}
}

// probe starts a prober on a tenant that it makes.
func (n *node) probe(name string) *prober {
	n.t.Helper()
	n.create(name)
	n.mustRows(name, "CREATE TABLE probe(id INTEGER PRIMARY KEY, n INTEGER) STRICT")
	n.mustRows(name, "INSERT INTO probe VALUES(1, 0)")
	ctx, cancel := context.WithCancel(n.t.Context())
	p := &prober{cancel: cancel, done: make(chan struct{})}
	c := n.Client
	go func() {
		defer close(p.done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := int64(1); ctx.Err() == nil; i++ {
			began := time.Now()
			r, _, err := c.Query(ctx, name, "UPDATE probe SET n=n+1 RETURNING n")
			if err == nil && (len(r.Rows) != 1 || r.Rows[0][0].Int() != i) {
				err = fmt.Errorf("write %d: got %v", i, r.Rows)
			}
			if err == nil {
				r, _, err = c.Query(ctx, name, "SELECT n FROM probe WHERE id=1")
				if err == nil && (len(r.Rows) != 1 || r.Rows[0][0].Int() != i) {
					err = fmt.Errorf("read after write %d: got %v", i, r.Rows)
				}
			}
			if ctx.Err() != nil {
				return
			}
			p.note(time.Since(began), err)
			if err != nil && lost(err) {
				return
			}
			<-tick.C
		}
	}()
	n.t.Cleanup(func() { cancel(); <-p.done })
	return p
}

func (p *prober) note(d time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.requests++
	p.mu.sum += d
	p.mu.worst = max(p.mu.worst, d)
	if err != nil && len(p.mu.errors) < 10 {
		p.mu.errors = append(p.mu.errors, err)
	}
}

// end stops it, prints what it saw, and fails the test if it saw an error or waited longer than most.
func (p *prober) end(t testing.TB, most time.Duration) {
	t.Helper()
	p.cancel()
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.requests == 0 {
		t.Error("the prober made no request")
		return
	}
	t.Logf("prober on another tenant: %d writes with reads, mean %s, worst %s, %d errors", p.mu.requests,
		(p.mu.sum / time.Duration(p.mu.requests)).Round(10*time.Microsecond), p.mu.worst.Round(100*time.Microsecond), len(p.mu.errors))
	for _, err := range p.mu.errors {
		t.Errorf("prober on another tenant: %v", err)
	}
	if p.mu.worst > most {
		t.Errorf("prober on another tenant waited %s, want at most %s", p.mu.worst, most)
	}
}
