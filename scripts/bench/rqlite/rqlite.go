package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nearsql/nearsql/scripts/bench/load"
	"github.com/nearsql/nearsql/scripts/localcluster"
)

// rqliteStartMax bounds how long rqlite may take until it has a leader.
const rqliteStartMax = 30 * time.Second

// rqlite is a cluster of theirs, with its defaults.
type rqlite struct {
	http  []string // HOST:PORT of each node
	procs []*localcluster.Process
}

// startRqlite starts a cluster of n nodes.
func startRqlite(ctx context.Context, binary, dir string, n int) (*rqlite, error) {
	ports, err := localcluster.FreePorts(2 * n)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &rqlite{http: ports[:n]}
	for i := range n {
		id := "n" + strconv.Itoa(i+1)
		s.procs = append(s.procs, localcluster.NewProcess(filepath.Join(dir, id+".log"), binary, "-node-id", id, "-http-addr", s.http[i], "-raft-addr", ports[n+i],
			"-bootstrap-expect", strconv.Itoa(n), "-join", strings.Join(ports[n:], ","), "-raft-log-level", "ERROR", filepath.Join(dir, id)))
	}
	for _, p := range s.procs {
		if err := p.Start(ctx, nil); err != nil {
			_ = s.stop()
			return nil, err
		}
	}
	for i := range s.procs {
		if err := s.serves(ctx, i); err != nil {
			_ = s.stop()
			return nil, err
		}
	}
	return s, nil
}

// serves waits until a node knows a leader.
func (s *rqlite) serves(ctx context.Context, node int) error {
	err := await(ctx, rqliteStartMax, func(ctx context.Context) error {
		_, err := get(ctx, "http://"+s.http[node]+"/readyz")
		return err
	})
	if err != nil {
		return fmt.Errorf("rqlite node %d: %w; its log ends with:\n%s", node+1, err, s.procs[node].LogTail(2000))
	}
	return nil
}

func (s *rqlite) name() string                           { return "rqlite" }
func (s *rqlite) nodes() int                             { return len(s.procs) }
func (s *rqlite) addr(node int) string                   { return s.http[node] }
func (s *rqlite) process(node int) *localcluster.Process { return s.procs[node] }
func (s *rqlite) row(v string) []byte                    { return []byte(`"values":[[` + v) }

func (s *rqlite) start(ctx context.Context, node int) error {
	if err := s.procs[node].Start(ctx, nil); err != nil {
		return err
	}
	return s.serves(ctx, node)
}

func (s *rqlite) stop() error {
	for _, p := range s.procs {
		p.Kill()
	}
	return nil
}

func (s *rqlite) leader(ctx context.Context) (int, error) {
	var errs []error
	for i, p := range s.procs {
		if !p.Running() {
			continue
		}
		b, err := get(ctx, "http://"+s.http[i]+"/nodes?ver=2")
		var list struct {
			Nodes []struct {
				API    string `json:"api_addr"`
				Leader bool   `json:"leader"`
			} `json:"nodes"`
		}
		if err == nil {
			err = json.Unmarshal(b, &list)
		}
		errs = append(errs, err)
		for _, n := range list.Nodes {
			if at := slices.Index(s.http, strings.TrimPrefix(n.API, "http://")); n.Leader && at >= 0 && s.procs[at].Running() {
				return at, nil
			}
		}
	}
	return 0, errors.Join(append(errs, errors.New("rqlite has no leader"))...)
}

// check: rqlite answers with status 200 also where a statement failed.
func (s *rqlite) check(status int, body []byte) error {
	if status != 200 || bytes.Contains(body, []byte(`"error":`)) {
		return &load.StatusError{Status: status, Body: string(body)}
	}
	return nil
}

func (s *rqlite) write(dst []byte, n int, list ...statement) []byte {
	path := "/db/execute"
	if len(list) > 1 {
		path += "?transaction"
	}
	return s.post(dst, n, path, list)
}

func (s *rqlite) read(dst []byte, n int, l level, q statement) []byte {
	query := map[level]string{strong: "level=linearizable", weak: "level=weak", follower: "level=none&freshness=5s", whatever: "level=none"}[l]
	return s.post(dst, n, "/db/query?"+query, []statement{q})
}

func (s *rqlite) post(dst []byte, node int, path string, list []statement) []byte {
	body := append(make([]byte, 0, 128*len(list)), '[')
	for i, st := range list {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, '[')
		body = strconv.AppendQuote(body, st.sql)
		for _, a := range st.args {
			body = append(append(body, ','), a...)
		}
		body = append(body, ']')
	}
	return load.AppendPost(dst, s.http[node], path, "", append(body, ']'))
}
