package copies

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// Prefix is under which the routes of a Server lie. They are for the cluster's listener alone.
//
//	GET /internal/v1/groups/{group}/tenants/{tenant}/copy           the bytes of a copy
//	GET /internal/v1/groups/{group}/tenants/{tenant}/copy/status    what the node's own copy is, as JSON (Status)
//
// Parameters of a copy: fetch, a text that the receiver draws for all tries of one copy; index, up to which entry of the log it must
// reach; have=EPOCH-TXID-CHECKSUM-PAGES, the older state that the receiver has; tag and offset, to go on with what broke off. The
// answer bears ETag, and after the last byte the trailer Nearsql-Copy-Bytes, without which it broke off;
// with Nearsql-Copy-Fault instead, the source itself can't go on.
// A refusal is JSON (RefusedError), with Retry-After where it may pass.
const Prefix = "/internal/v1/groups/"

const (
	pattern       = "GET " + Prefix + "{group}/tenants/{tenant}/copy"
	contentType   = "application/vnd.nearsql.copy"
	bytesTrailer  = "Nearsql-Copy-Bytes"
	faultTrailer  = "Nearsql-Copy-Fault" // why the source can't send the rest
	partialHeader = "Nearsql-Copy-Since" // TXID of the older state, when only what changed since comes
	maxFetch      = 64                   // characters of the text that the receiver draws
	maxRefusal    = 64 << 10             // bytes of a refusal or status that are read
)

// Code is why a copy is refused.
type Code string

// Codes of refusals.
const (
	CodeBad      Code = "BAD_REQUEST"
	CodeNoGroup  Code = "NO_GROUP"
	CodeNoTenant Code = "NO_TENANT"
	CodeHollow   Code = "HOLLOW"  // the node waits for its own copy
	CodeFailed   Code = "FAILED"  // the node's own copy is out of service
	CodeStale    Code = "STALE"   // the node's copy lacks entries that are wanted
	CodeStaging  Code = "STAGING" // parts of a large transaction are coming
	CodeGone     Code = "GONE"    // the state of a copy that broke off is not kept any more
	CodeBusy     Code = "BUSY"    // too many copies are sent at once
	CodeInternal Code = "INTERNAL"
)

// status is the HTTP status of a code.
func (c Code) status() int {
	switch c {
	case CodeBad:
		return http.StatusBadRequest
	case CodeNoGroup, CodeNoTenant:
		return http.StatusNotFound
	case CodeHollow, CodeFailed, CodeStale, CodeStaging:
		return http.StatusConflict
	case CodeGone:
		return http.StatusPreconditionFailed
	case CodeBusy:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// RefusedError is a node's refusal to send a copy.
type RefusedError struct {
	Node       string        `json:"-"`
	Code       Code          `json:"code"`
	Text       string        `json:"error"`
	Have       uint64        `json:"have,omitempty"` // of CodeStale: index of the newest entry in its copy
	Want       uint64        `json:"want,omitempty"`
	RetryAfter time.Duration `json:"-"` // 0: nothing is known
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("node %s refuses the copy: %s: %s", e.Node, e.Code, e.Text)
}

// write answers with the refusal.
func (e *RefusedError) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	w.WriteHeader(e.Code.status())
	_ = json.NewEncoder(w).Encode(e) // who asked may be gone
}

// readRefusal reads what write wrote, or whatever else came instead.
func readRefusal(node string, r *http.Response) *RefusedError {
	e := &RefusedError{}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxRefusal))
	if err != nil || json.Unmarshal(b, e) != nil || e.Code == "" {
		*e = RefusedError{Code: CodeInternal, Text: "HTTP status " + r.Status}
	}
	e.Node = node
	if s, err := strconv.Atoi(r.Header.Get("Retry-After")); err == nil && s > 0 && s <= 3600 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}

// Status is what a node says of its own copy of a tenant.
type Status struct {
	InService bool       `json:"in_service"`
	Rotten    bool       `json:"rotten"`   // in service with a corrupt page
	Diverged  bool       `json:"diverged"` // out of service, as it is not what the log says
	Epoch     wire.Epoch `json:"epoch"`
	TXID      wire.TXID  `json:"txid,string"` // of the newest state that its readers see
}

// Sound says that the copy can take the place of another.
func (s Status) Sound() bool { return s.InService && !s.Rotten }

// request is what is asked of a server.
type request struct {
	group  wire.GroupID
	tenant wire.TenantID
	fetch  string
	index  uint64
	have   pagestore.Have
	tag    string
	offset int64
}

func (q *request) path() string {
	return fmt.Sprintf("%s%d/tenants/%s/copy", Prefix, q.group, q.tenant)
}

// url is where node is asked.
func (q *request) url(node string) *url.URL {
	v := url.Values{"fetch": {q.fetch}, "index": {strconv.FormatUint(q.index, 10)}}
	if q.have.State.TXID > 0 {
		v.Set("have", formatHave(q.have))
	}
	if q.tag != "" {
		v.Set("tag", q.tag)
		v.Set("offset", strconv.FormatInt(q.offset, 10))
	}
	return &url.URL{Scheme: "http", Host: node, Path: q.path(), RawQuery: v.Encode()}
}

func formatHave(h pagestore.Have) string {
	return fmt.Sprintf("%d-%d-%016x-%d", uint32(h.Epoch), uint64(h.State.TXID), uint64(h.State.Checksum), h.State.Pages)
}

// parseTarget reads the group and tenant of a path.
func parseTarget(r *http.Request) (q request, err error) {
	n, err := strconv.ParseUint(r.PathValue("group"), 10, 32)
	if err != nil {
		return q, fmt.Errorf("group: %w", err)
	}
	q.group = wire.GroupID(n)
	q.tenant, err = wire.ParseTenantID(r.PathValue("tenant"))
	return q, err
}

// parseRequest reads what url wrote.
func parseRequest(r *http.Request) (request, error) {
	q, err := parseTarget(r)
	if err != nil {
		return q, err
	}
	v := r.URL.Query()
	if q.fetch = v.Get("fetch"); q.fetch == "" || len(q.fetch) > maxFetch {
		return q, fmt.Errorf("fetch: want 1 to %d characters, got %d", maxFetch, len(q.fetch))
	}
	if q.index, err = strconv.ParseUint(v.Get("index"), 10, 64); err != nil {
		return q, fmt.Errorf("index: %w", err)
	}
	if s := v.Get("have"); s != "" {
		if q.have, err = parseHave(s); err != nil {
			return q, err
		}
	}
	if q.tag = v.Get("tag"); q.tag != "" {
		if q.offset, err = strconv.ParseInt(v.Get("offset"), 10, 64); err != nil || q.offset < 0 {
			return q, fmt.Errorf("offset %q is no number of bytes", v.Get("offset"))
		}
	}
	return q, nil
}

func parseHave(s string) (h pagestore.Have, err error) {
	var (
		epoch, pages uint32
		txid, sum    uint64
	)
	if _, err := fmt.Sscanf(s, "%d-%d-%x-%d", &epoch, &txid, &sum, &pages); err == nil {
		h.Epoch = wire.Epoch(epoch)
		h.State = pagestore.State{TXID: wire.TXID(txid), Checksum: wire.Checksum(sum), Pages: pages}
	}
	if formatHave(h) != s { // nothing else may be in it
		return h, fmt.Errorf("have: %.100q is not EPOCH-TXID-CHECKSUM-PAGES", s)
	}
	return h, nil
}
