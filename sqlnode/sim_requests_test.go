package sqlnode

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
)

// do sends a request to the node's API, as root.
func (n *simNode) do(method, path, body string) (int, string) {
	return n.ask(context.Background(), method, path, body, nil)
}

// ask sends a request to the node's API, as root. The status is 0 if there is no answer: ctx has ended, or the node. While its machine stands
// still the request waits, and so does the answer.
func (n *simNode) ask(ctx context.Context, method, path, body string, header map[string]string) (int, string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.life, cancel)()
	req := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+n.auth.text)
	for k, v := range header {
		req.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	if !n.clock.awake(ctx) {
		return 0, ""
	}
	n.Handler().ServeHTTP(w, req)
	if !n.clock.awake(ctx) || n.dead.Load() || ctx.Err() != nil {
		return 0, ""
	}
	return w.Code, w.Body.String()
}

func (n *simNode) want(t *testing.T, method, path, body string, status int) string {
	t.Helper()
	got, text := n.do(method, path, body)
	if got != status {
		t.Fatalf("%s: %s %s %s: status %d, want %d: %s", n.id.Node, method, path, body, got, status, text)
	}
	return text
}

// sql runs one statement and returns its rows as JSON.
func (n *simNode) sql(t *testing.T, tenant, query, sql string) string {
	t.Helper()
	b, _ := json.Marshal(map[string]string{"sql": sql})
	var answer struct {
		Results []struct{ Rows json.RawMessage }
	}
	text := n.want(t, "POST", "/v1/tenants/"+tenant+"/sql"+query, string(b), 200)
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatalf("%s: %v in %s", sql, err, text)
	}
	return string(answer.Results[0].Rows)
}
