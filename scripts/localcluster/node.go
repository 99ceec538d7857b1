package localcluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// defaultGroup is the group that tenants are in if nobody says otherwise.
const defaultGroup = 2

// askTimeout bounds one question to a node about itself.
const askTimeout = 3 * time.Second

// answerMax bounds an answer about a node, in bytes.
const answerMax = 16 << 20

// Node is one node.
type Node struct {
	*Process
	ID   string
	Addr string // HOST:PORT of its public listener
	Dir  string // its data

	cluster   string // HOST:PORT where it listens for other nodes
	advertise string // HOST:PORT where they dial
}

// Start starts the node, and waits until it serves.
func (n *Node) Start(ctx context.Context) error {
	return n.Process.Start(ctx, func(line string) bool { return strings.HasPrefix(line, "nearsql serves at ") })
}

// URL is the node's address for clients.
func (n *Node) URL() string { return "http://" + n.Addr }

// Key is the root key of the cluster, as the node has it.
func (n *Node) Key() (string, error) {
	b, err := os.ReadFile(filepath.Join(n.Dir, "root.key"))
	return strings.TrimSpace(string(b)), err
}

// Key is the root key of the cluster.
func (c *Cluster) Key() (string, error) { return c.Nodes[0].Key() }

// Node is the node of an id, or nil.
func (c *Cluster) Node(id string) *Node {
	i := slices.IndexFunc(c.Nodes, func(n *Node) bool { return n.ID == id })
	if i < 0 {
		return nil
	}
	return c.Nodes[i]
}

// StatusError is an answer with a status other than 2xx.
type StatusError struct {
	Status int
	Body   string
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %.300s", e.Status, e.Body) }

// Do sends a request with the cluster's root key, and returns the body of an answer of success.
func (c *Cluster) Do(ctx context.Context, n *Node, method, path, body string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	key, err := c.Key()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, n.URL()+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err == nil && resp.StatusCode/100 != 2 {
		err = &StatusError{resp.StatusCode, string(b)}
	}
	return b, err
}

// Group is what /v1/groups/{id} tells of a group.
type Group struct {
	ID       int      `json:"id"`
	Name     string   `json:"name"`
	Voters   []string `json:"voters"`
	Learners []string `json:"learners"`
	Primary  string   `json:"primary"`
	Term     uint64   `json:"term"`
}

// DefaultGroup asks a node that runs for the default group.
func (c *Cluster) DefaultGroup(ctx context.Context) (g Group, err error) {
	err = errors.New("no node runs")
	for _, n := range c.Nodes {
		if !n.Running() || n.Paused() {
			continue
		}
		var b []byte
		if b, err = c.Do(ctx, n, "GET", "/v1/groups/"+strconv.Itoa(defaultGroup), ""); err == nil {
			if err = json.Unmarshal(b, &g); err == nil && g.Primary != "" {
				return g, nil
			}
		}
	}
	return g, err
}

// Primary is the node that says it is the primary of the default group in the highest term; of those that can be asked.
func (c *Cluster) Primary(ctx context.Context) (*Node, error) {
	var best *Node
	var term uint64
	var errs []error
	for _, n := range c.Nodes {
		if !n.Running() || n.Paused() {
			continue
		}
		b, err := c.Do(ctx, n, "GET", "/v1/status", "")
		var s struct {
			Groups []struct {
				ID      int    `json:"id"`
				Primary bool   `json:"primary"`
				Term    uint64 `json:"term"`
			} `json:"groups"`
		}
		if err == nil {
			err = json.Unmarshal(b, &s)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("node %s: %w", n.ID, err))
		}
		for _, g := range s.Groups {
			if g.ID == defaultGroup && g.Primary && (best == nil || g.Term > term) {
				best, term = n, g.Term
			}
		}
	}
	if best == nil {
		return nil, errors.Join(append(errs, errors.New("no node is the primary of the default group"))...)
	}
	return best, nil
}

// Metric sums a metric of a node over all its label sets that have each of the labels (`purpose="raft"`).
func (c *Cluster) Metric(ctx context.Context, n *Node, name string, labels ...string) (float64, error) {
	b, err := c.Do(ctx, n, "GET", "/metrics", "")
	if err != nil {
		return 0, err
	}
	sum, found := 0.0, false
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		at := strings.LastIndexByte(rest, ' ')
		if slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(rest[:at], l) }) {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[at:]), 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("node %s has no metric %s %v", n.ID, name, labels)
	}
	return sum, nil
}
