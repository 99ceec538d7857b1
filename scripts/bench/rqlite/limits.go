package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/nearsql/nearsql/scripts/bench/load"
	"github.com/nearsql/nearsql/scripts/localcluster"
)

// payloadBytes is the mean log entry of an insert as here, of nearsql alone (log_bytes_insert of scripts/bench-node).
const payloadBytes = 773

// raftWAL is a log of this process, on the disk that the clusters use.
type raftWAL struct {
	log   *wal.WAL
	first uint64 // that is kept
	next  uint64
	data  []byte
}

func openRaftWAL(dir string) (*raftWAL, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	log, err := wal.Open(dir)
	return &raftWAL{log: log, first: 1, next: 1, data: make([]byte, payloadBytes)}, err
}

func (w *raftWAL) close() error { return w.log.Close() }

// run appends for a time, so many entries to a sync: as many as wait when so many clients write. It returns entries per second.
func (w *raftWAL) run(d time.Duration, each int) (float64, error) {
	began, from := time.Now(), w.next
	batch := make([]*raft.Log, each)
	for {
		for i := range batch {
			batch[i] = &raft.Log{Index: w.next, Term: 1, Data: w.data}
			w.next++
		}
		if err := w.log.StoreLogs(batch); err != nil {
			return 0, err
		}
		if took := time.Since(began); took >= d {
			break
		}
	}
	took := time.Since(began)
	// As Raft does after a snapshot: the log does not grow from round to round.
	keep := w.next - uint64(each)
	if err := w.log.DeleteRange(w.first, keep-1); err != nil {
		return 0, err
	}
	w.first = keep
	return float64(w.next-from) / took.Seconds(), nil
}

// echo is a bare HTTP server: bench-node's, in a process of its own.
type echo struct {
	*localcluster.Process
	addr string
}

func startEcho(ctx context.Context, program, dir string) (*echo, error) {
	e := &echo{Process: localcluster.NewProcess(filepath.Join(dir, "echo.log"), program, "echo")}
	line := make(chan string, 1)
	err := e.Start(ctx, func(l string) bool {
		line <- l
		return true
	})
	if err != nil {
		return nil, err
	}
	_, rest, ok := strings.Cut(<-line, "serves at http://")
	if !ok {
		e.Kill()
		return nil, errors.New("the echo does not say where it serves")
	}
	e.addr, _, _ = strings.Cut(rest, ",")
	return e, nil
}

// post appends a request with the body that nearsql gets for a read.
func (e *echo) post(dst []byte, i int64) []byte {
	return load.AppendPost(dst, e.addr, "/", "", fmt.Appendf(nil, `{"sql":%q,"args":[%d]}`, selectRead, readID(i)))
}
