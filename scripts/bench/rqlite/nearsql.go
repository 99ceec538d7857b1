package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/nearsql/nearsql/scripts/bench/load"
	"github.com/nearsql/nearsql/scripts/localcluster"
)

// nearsql is a cluster of ours. Requests go to one tenant.
type nearsql struct {
	*localcluster.Cluster
	token  string
	tenant string
}

// startNearsql starts a cluster, and makes the tenants.
func startNearsql(ctx context.Context, o localcluster.Options, tenants ...string) (_ *nearsql, err error) {
	c, err := localcluster.New(o)
	if err != nil {
		return nil, err
	}
	s := &nearsql{Cluster: c, tenant: tenants[0]}
	if err := c.Start(ctx); err != nil {
		_ = s.stop()
		return nil, err
	}
	if s.token, err = c.Key(); err != nil {
		_ = s.stop()
		return nil, err
	}
	for _, t := range tenants {
		if _, err := c.Do(ctx, c.Nodes[0], "POST", "/v1/tenants", fmt.Sprintf(`{"name":%q}`, t)); err != nil {
			_ = s.stop()
			return nil, fmt.Errorf("create tenant %s: %w", t, err)
		}
	}
	return s, nil
}

func (s *nearsql) name() string                              { return "nearsql" }
func (s *nearsql) nodes() int                                { return len(s.Nodes) }
func (s *nearsql) addr(node int) string                      { return s.Nodes[node].Addr }
func (s *nearsql) process(node int) *localcluster.Process    { return s.Nodes[node].Process }
func (s *nearsql) start(ctx context.Context, node int) error { return s.Nodes[node].Start(ctx) }
func (s *nearsql) stop() error                               { return s.Close() }
func (s *nearsql) row(v string) []byte                       { return []byte(`"rows":[[` + v) }
func (s *nearsql) write(dst []byte, n int, l ...statement) []byte {
	return s.post(dst, n, s.tenant, "", l)
}

func (s *nearsql) leader(ctx context.Context) (int, error) {
	n, err := s.Primary(ctx)
	return slices.Index(s.Nodes, n), err
}

func (s *nearsql) check(status int, body []byte) error {
	if status != 200 {
		return &load.StatusError{Status: status, Body: string(body)}
	}
	return nil
}

// A weak read is one with the default bound, 5 s, which it keeps whatever clocks do.
func (s *nearsql) read(dst []byte, n int, l level, q statement) []byte {
	query := map[level]string{strong: "?consistency=strong", weak: "?consistency=weak", follower: "?consistency=weak&max_staleness=5s",
		whatever: "?consistency=weak&max_staleness=any"}[l]
	return s.post(dst, n, s.tenant, query, []statement{q})
}

func (s *nearsql) post(dst []byte, node int, tenant, query string, list []statement) []byte {
	body := make([]byte, 0, 128*len(list))
	if len(list) > 1 {
		body = append(body, `{"statements":[`...)
	}
	for i, st := range list {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `{"sql":`...)
		body = strconv.AppendQuote(body, st.sql)
		for j, a := range st.args {
			if j == 0 {
				body = append(body, `,"args":[`...)
			} else {
				body = append(body, ',')
			}
			body = append(body, a...)
		}
		if len(st.args) > 0 {
			body = append(body, ']')
		}
		body = append(body, '}')
	}
	if len(list) > 1 {
		body = append(body, "]}"...)
	}
	return load.AppendPost(dst, s.addr(node), "/v1/tenants/"+tenant+"/sql"+query, s.token, body)
}
