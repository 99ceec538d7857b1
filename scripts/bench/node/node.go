package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/nearsql/nearsql/scripts/bench/load"
)

// post appends a request of SQL to tenant t.
func (p *process) post(dst []byte, t string, body []byte) []byte {
	return load.AppendPost(dst, p.addr, "/v1/tenants/"+t+"/sql", p.token, body)
}

// read appends a point read of table r.
func (p *process) read(dst []byte, t string, i int64) []byte {
	body := append(make([]byte, 0, 128), `{"sql":"`+selectRead+`","args":[`...)
	body = strconv.AppendInt(body, readID(int(i)), 10)
	return p.post(dst, t, append(body, "]}"...))
}

// insert appends an insert of one row into table t.
func (p *process) insert(dst []byte, t string, i int64) []byte {
	body := append(make([]byte, 0, 128), `{"sql":"`+insertRow+`","args":["`+rowText+`","`...)
	body = append(body, indexed(int(i))...)
	return p.post(dst, t, append(body, `"]}`...))
}

// once sends requests, one after another.
func (p *process) once(ctx context.Context, requests ...[]byte) error {
	pool, err := load.Dial(p.addr, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	_, err = pool.Run(ctx, load.Run{Requests: int64(len(requests)),
		Request: func(dst []byte, i int64) []byte { return append(dst, requests[i]...) },
		Check:   ok})
	return err
}

// ok takes any status of success.
func ok(_ int64, status int, body []byte) error {
	if status/100 != 2 {
		return &load.StatusError{Status: status, Body: string(body)}
	}
	return nil
}

// createTenant makes a tenant with the tables of the comparisons.
func (p *process) createTenant(ctx context.Context, t string) error {
	return p.once(ctx,
		load.AppendPost(nil, p.addr, "/v1/tenants", p.token, fmt.Appendf(nil, `{"name":%q}`, t)),
		p.post(nil, t, fmt.Appendf(nil, `{"statements":[{"sql":%q},{"sql":%q},{"sql":%q},{"sql":%q,"args":[%d]}]}`,
			createTable, createIndex, createRead, fillRead, readRows)))
}

// metric is the value of one of the node's metrics, without labels.
func (p *process) metric(ctx context.Context, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+p.addr+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name+" "); found {
			return strconv.ParseFloat(strings.TrimSpace(rest), 64)
		}
	}
	return 0, fmt.Errorf("the node has no metric %s", name)
}
