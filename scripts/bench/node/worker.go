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
		err := c.grow(x, t.Clients)
		if err == nil {
			took, err = c.work(t.Clients, t.N, do)
		}
		d := done{Nanos: took.Nanoseconds()}
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

// do has a task done and returns its operations per second.
func (w *worker) do(t task) (float64, error) {
	if err := w.tasks.Encode(t); err != nil {
		return 0, fmt.Errorf("%s: %w", w.name, err)
	}
	var d done
	if err := w.done.Decode(&d); err != nil {
		return 0, fmt.Errorf("%s: %w", w.name, err)
	}
	if d.Error != "" {
		return 0, fmt.Errorf("%s: %s", w.name, d.Error)
	}
	return float64(t.N) / (float64(d.Nanos) / 1e9), nil
}

func (w *worker) stop() error {
	return errors.Join(w.in.Close(), w.cmd.Wait())
}
