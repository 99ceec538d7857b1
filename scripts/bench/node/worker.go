package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// task is what a worker is told to do, one line of JSON each.
type task struct {
	Read    bool // else insert
	Clients int
	N       int
}

// done is what it answers.
type done struct {
	Nanos int64
	CPU   int64 // nanoseconds of the process's CPU time, all threads
	Error string
}

// serveWorker is a contender in a process of its own: it does one task after another.
func serveWorker(args []string, in io.Reader, out io.Writer) (err error) {
	if len(args) != 2 {
		return errors.New("worker: want NAME DIR")
	}
	x, err := openContender(args[0], args[1])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.close()) }()
	var c crew
	tasks, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var t task
		if err := tasks.Decode(&t); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		do := client.insert
		if t.Read {
			do = client.read
		}
		var took time.Duration
		cpu := cpuTime()
		err := c.grow(x, t.Clients)
		if err == nil {
			took, err = c.work(t.Clients, t.N, do)
		}
		d := done{Nanos: took.Nanoseconds(), CPU: (cpuTime() - cpu).Nanoseconds()}
		if err != nil {
			d.Error = err.Error()
		}
		if err := answers.Encode(d); err != nil {
			return err
		}
	}
}

// worker is the parent's side.
type worker struct {
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	tasks *json.Encoder
	done  *json.Decoder
}

func startWorker(ctx context.Context, name, dir string) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{name: name, cmd: exec.CommandContext(ctx, self, "worker", name, dir)}
	w.cmd.Stderr = os.Stderr
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.tasks, w.done = json.NewEncoder(w.in), json.NewDecoder(bufio.NewReader(out))
	return w, w.cmd.Start()
}

// do has a task done, and returns the time and the CPU time that one operation took, in seconds.
func (w *worker) do(t task) (took, cpu float64, err error) {
	if err := w.tasks.Encode(t); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", w.name, err)
	}
	var d done
	if err := w.done.Decode(&d); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", w.name, err)
	}
	if d.Error != "" {
		return 0, 0, fmt.Errorf("%s: %s", w.name, d.Error)
	}
	n := float64(t.N) * 1e9
	return float64(d.Nanos) / n, float64(d.CPU) / n, nil
}

// cpuTime is the CPU time of this process so far.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (w *worker) stop() error {
	return errors.Join(w.in.Close(), w.cmd.Wait())
}
