package localcluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopMax bounds how long a process may take to end after SIGTERM.
const stopMax = time.Minute

// Process is a server in a process of its own, which may be started many times. Its methods may be called by several goroutines, but
// Start not while it runs.
type Process struct {
	log  string // file that its output is appended to
	argv []string

	mu struct {
		sync.Mutex
		cmd   *exec.Cmd
		ended chan struct{} // closed when the process has ended
		pause bool
	}
}

// NewProcess describes a server; nothing is started. Output goes to the end of the file log.
func NewProcess(log string, argv ...string) *Process { return &Process{log: log, argv: argv} }

// ErrEnded says that a process ended before it served.
var ErrEnded = errors.New("the process ended before it served")

// Start starts the process, and waits until ready says yes to a line of its standard output; with a nil ready it does not wait.
func (p *Process) Start(ctx context.Context, ready func(line string) bool) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Stderr, cmd.SysProcAttr = log, childAttr()
	out, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout = w
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		_ = out.Close()
		return fmt.Errorf("start %s: %w", p.argv[0], err)
	}
	ended, served := make(chan struct{}), make(chan struct{})
	p.mu.Lock()
	p.mu.cmd, p.mu.ended, p.mu.pause = cmd, ended, false
	p.mu.Unlock()
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		close(ended)
	}()
	go drain(out, ready, served)
	if ready == nil {
		return nil
	}
	select {
	case <-served:
		return nil
	case <-ended:
		return fmt.Errorf("%s: %w; its log ends with:\n%s", p.argv[0], ErrEnded, p.LogTail(3000))
	case <-ctx.Done():
		return fmt.Errorf("%s does not serve: %w; its log ends with:\n%s", p.argv[0], ctx.Err(), p.LogTail(3000))
	}
}

// drain reads what a process prints until it ends, and closes served at the line that it serves.
func drain(out io.ReadCloser, ready func(string) bool, served chan<- struct{}) {
	defer out.Close()
	lines := bufio.NewReader(out)
	for said := false; ; {
		line, err := lines.ReadString('\n')
		if !said && ready != nil && ready(line) {
			said = true
			close(served)
		}
		if err != nil {
			return
		}
	}
}

// running is the process, if it runs.
func (p *Process) running() (cmd *exec.Cmd, ended <-chan struct{}, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.cmd == nil {
		return nil, nil, false
	}
	select {
	case <-p.mu.ended:
		return nil, nil, false
	default:
		return p.mu.cmd, p.mu.ended, true
	}
}

// Running says whether the process has been started and has not ended.
func (p *Process) Running() bool { _, _, ok := p.running(); return ok }

// Pid is the id of the process; 0 when it does not run.
func (p *Process) Pid() int {
	if cmd, _, ok := p.running(); ok {
		return cmd.Process.Pid
	}
	return 0
}

// Kill is kill -9, and waits for the end. A process that does not run is killed already.
func (p *Process) Kill() {
	if cmd, ended, ok := p.running(); ok {
		_ = cmd.Process.Kill()
		<-ended
	}
}

// Terminate asks the process to end. It does not wait.
func (p *Process) Terminate() error {
	cmd, _, ok := p.running()
	if !ok {
		return nil
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Stop asks the process to end, and waits; one that ends otherwise than with exit code 0 is an error.
func (p *Process) Stop() error {
	p.mu.Lock()
	cmd, ended := p.mu.cmd, p.mu.ended
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	p.Resume()
	if err := p.Terminate(); err != nil {
		return err
	}
	late := time.NewTimer(stopMax)
	defer late.Stop()
	select {
	case <-ended:
	case <-late.C:
		p.Kill()
		return fmt.Errorf("%s runs on %s after SIGTERM; its log ends with:\n%s", p.argv[0], stopMax, p.LogTail(3000))
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s ended with exit code %d; its log ends with:\n%s", p.argv[0], code, p.LogTail(3000))
	}
	return nil
}

// Pause stops the process as SIGSTOP does.
func (p *Process) Pause() { p.signal(syscall.SIGSTOP, true) }

// Resume ends Pause.
func (p *Process) Resume() { p.signal(syscall.SIGCONT, false) }

func (p *Process) signal(s os.Signal, pause bool) {
	if cmd, _, ok := p.running(); ok {
		_ = cmd.Process.Signal(s)
		p.mu.Lock()
		p.mu.pause = pause
		p.mu.Unlock()
	}
}

// Paused says whether the process was paused and not resumed.
func (p *Process) Paused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.pause
}

// LogTail is the end of the log, at most max bytes.
func (p *Process) LogTail(max int) string {
	b, _ := os.ReadFile(p.log)
	return strings.ToValidUTF8(string(b[len(b)-min(len(b), max):]), "?")
}
