package httpapi

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/wire"
)

// codeTable is the table of codes as the documentation has it.
func codeTable() string {
	var b strings.Builder
	b.WriteString("| code | status | retryable | meaning |\n|---|---|---|---|\n")
	for _, c := range wire.Codes() {
		retry := ""
		if c.Retryable {
			retry = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %d | %s | %s |\n", c.Code, c.HTTPStatus, retry, strings.ReplaceAll(c.Meaning, "|", `\|`))
	}
	return b.String()
}

func TestDocsHaveTheCodes(t *testing.T) {
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- codes: begin -->\n", "<!-- codes: end -->"
	_, rest, ok1 := strings.Cut(string(text), begin)
	table, _, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatal("docs/api.md has no table of codes")
	}
	if want := codeTable(); table != want {
		t.Errorf("docs/api.md has another table of codes; it should be\n%s", want)
	}
}

func TestDocsHaveTheRoutes(t *testing.T) {
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, nil)
	for _, line := range []string{
		"POST /v1/tenants/{t}/sql", "GET /v1/tenants/{t}/sql", "GET /v1/tenants", "POST /v1/tenants", "GET /v1/tenants/{t}",
		"DELETE /v1/tenants/{t}", "PUT /v1/tenants/{t}/placement", "GET /v1/tenants/{t}/copies", "POST /v1/tenants/{t}/import", "GET /v1/tenants/{t}/export", "GET /v1/status", "GET /healthz",
		"GET /v1/nodes", "GET /v1/nodes/{id}", "POST /v1/nodes/{id}/drain", "POST /v1/nodes/{id}/undrain", "DELETE /v1/nodes/{id}",
		"GET /v1/groups", "POST /v1/groups", "GET /v1/groups/{g}", "POST /v1/groups/{g}/move-leader", "GET /readyz", "GET /metrics",
	} {
		if !strings.Contains(string(text), "`"+line+"`") {
			t.Errorf("docs/api.md does not have %s", line)
		}
		method, path, _ := strings.Cut(line, " ")
		r, err := http.NewRequest(method, strings.NewReplacer("{t}", "a", "{id}", "a", "{g}", "a").Replace(path), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, pattern := f.handler.mux.Handler(r); pattern != line {
			t.Errorf("%s is served by %q", line, pattern)
		}
	}
}
