package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server in a process of its own.
type process struct {
	addr  string // HOST:PORT
	token string // of a node
	took  time.Duration
	cmd   *exec.Cmd
	log   *os.File
}

// startNode starts a node on the data directory.
func (b *bench) startNode(data string, more ...string) (*process, error) {
	p, err := start(b.ctx, data+".log", b.nearsql, append([]string{"serve", "--data-dir", data, "--listen", "127.0.0.1:0", "--log-level", "warn"}, more...)...)
	if err != nil {
		return nil, err
	}
	return p.withKey(data)
}

// withKey takes the root key out of the data directory.
func (p *process) withKey(data string) (*process, error) {
	key, err := os.ReadFile(filepath.Join(data, "root.key"))
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	p.token = strings.TrimSpace(string(key))
	return p, nil
}

// self starts this program as a child.
func (b *bench) self(log string, args ...string) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(b.ctx, filepath.Join(b.dir, log), exe, args...)
}

// startTimeout bounds how long a server may take until it serves.
const startTimeout = 2 * time.Minute

// start runs a server until it says where it serves.
func start(ctx context.Context, log, exe string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(exe, args...)}
	var err error
	if p.log, err = os.Create(log); err != nil {
		return nil, err
	}
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, p.log.Close())
	}
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, p.log.Close())
	}
	lines := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		lines <- line
	}()
	select {
	case line := <-lines:
		p.took = time.Since(began)
		if _, rest, ok := strings.Cut(line, "serves at http://"); ok {
			p.addr, _, _ = strings.Cut(strings.TrimSpace(rest), ",")
			return p, nil
		}
		err = errors.New("it ended before it served")
	case <-time.After(startTimeout):
		err = errors.New("it does not serve")
	case <-ctx.Done():
		err = ctx.Err()
	}
	text, _ := os.ReadFile(log)
	return nil, errors.Join(fmt.Errorf("%s %s: %w; it said:\n%s", exe, args[0], err, text), p.stop())
}

// stop asks the server to end, and waits until it has.
func (p *process) stop() error {
	defer p.log.Close()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if err := p.cmd.Wait(); err != nil {
		text, _ := os.ReadFile(p.log.Name())
		return fmt.Errorf("%s ended with %w; it said:\n%s", p.cmd.Path, err, text)
	}
	return nil
}

// rss is the resident memory of the process, in bytes (VmRSS of proc_pid_status(5)).
func (p *process) rss() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kB, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kB << 10, err
		}
	}
	return 0, errors.New("no VmRSS in /proc")
}

// cpu is the CPU time of the process so far, to 10 ms (proc_pid_stat(5)); 0 where it is not known.
func (p *process) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ") // after the name, which may have spaces
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	var ticks int64 // 100 per second, on every Linux that Go runs on
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
