package cluster_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/cluster/clustertest"
	"github.com/nearsql/nearsql/sqlnode/certs"
)

var request = cluster.JoinRequest{
	Incarnation: "0a0b", PoP: "fra", Region: "eu", Labels: map[string]string{"disk": "nvme"},
	ClusterAddr: "10.0.0.2:7001", PublicURL: "https://n2.example",
}

func welcome(_ context.Context, _ cluster.JoinRequest) (cluster.JoinAnswer, error) {
	return cluster.JoinAnswer{Cluster: ours, RootKey: "secret", Peers: map[string]string{"n1": "n1:7001"}}, nil
}

func handleJoin(t *testing.T, n running, h func(context.Context, cluster.JoinRequest) (cluster.JoinAnswer, error)) {
	t.Helper()
	if err := n.HandleJoin(h); err != nil {
		t.Fatal(err)
	}
}

func joining(network *clustertest.Network, from string) cluster.JoinConfig {
	return cluster.JoinConfig{From: from, Addr: "n1", Dialer: network.Node(from).Dial}
}

// any gives a JoinConfig the certificate of a node.
func anyOf(t *testing.T, cfg cluster.JoinConfig, dir, node string) cluster.JoinConfig {
	t.Helper()
	f := certs.Files{CA: filepath.Join(dir, certs.AuthorityCert), Cert: filepath.Join(dir, node+".crt"), Key: filepath.Join(dir, node+".key")}
	c, err := f.ClientAny()
	if err != nil {
		t.Fatal(err)
	}
	cfg.ClientTLS = c
	return cfg
}

func wantJoinError(t *testing.T, err error, code cluster.JoinCode, text string) {
	t.Helper()
	var e *cluster.JoinError
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, text) {
		t.Fatalf("got %v, want %s with %q", err, code, text)
	}
}

func TestJoin(t *testing.T) {
	for _, secured := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			network := clustertest.New(clustertest.Options{})
			cfg, join := configure(t, network, "n1"), joining(network, "n2")
			// It is not admitted yet, of course.
			cfg.Admit = func(string) error { return errors.New("unknown") }
			if secured {
				dir := authority(t, "n1", "n2")
				cfg, join = secure(t, cfg, dir, "n1"), anyOf(t, join, dir, "n2")
			}
			n1 := run(t, cfg)
			_, err := cluster.AskJoin(t.Context(), join, request)
			if r := wantRefused(t, err, cluster.CodeUnknownPurpose); r.Node != "n1" {
				t.Errorf("refused by %q", r.Node)
			}
			seen := make(chan cluster.JoinRequest, 1)
			handleJoin(t, n1, func(ctx context.Context, r cluster.JoinRequest) (cluster.JoinAnswer, error) {
				seen <- r
				return welcome(ctx, r)
			})
			a, err := cluster.AskJoin(t.Context(), join, request)
			if err != nil || a.Cluster != ours || a.RootKey != "secret" || a.Peers["n1"] != "n1:7001" {
				t.Fatalf("got %+v, %v", a, err)
			}
			if r := <-seen; r.Node != "n2" || r.Labels["disk"] != "nvme" || r.ClusterAddr != request.ClusterAddr || r.Version != cluster.JoinVersion {
				t.Fatalf("request %+v", r)
			}
		})
	}
}

// TestJoinRefused: what the handler says, as it says it, and what it is not asked for.
func TestJoinRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		n1 := start(t, network, "n1")
		var answer error
		block := make(chan struct{})
		handleJoin(t, n1, func(ctx context.Context, r cluster.JoinRequest) (cluster.JoinAnswer, error) {
			if answer == nil {
				<-block
			}
			return cluster.JoinAnswer{}, answer
		})
		answer = fmt.Errorf("add it: %w", &cluster.JoinError{Code: cluster.JoinConflict, Message: "n2 was removed\x00" + strings.Repeat("x", 2000)})
		_, err := cluster.AskJoin(t.Context(), joining(network, "n2"), request)
		wantJoinError(t, err, cluster.JoinConflict, "n2 was removed?xxx")
		answer = errors.New("no primary")
		_, err = cluster.AskJoin(t.Context(), joining(network, "n2"), request)
		wantJoinError(t, err, cluster.JoinFailed, "no primary")
		other := request
		other.Node = "n9"
		_, err = cluster.AskJoin(t.Context(), joining(network, "n2"), other)
		wantJoinError(t, err, cluster.JoinBadRequest, "node n2 asks for node n9")
		for name, change := range map[string]func(*cluster.JoinRequest){
			"incarnation": func(r *cluster.JoinRequest) { r.Incarnation = "" }, "cluster_addr": func(r *cluster.JoinRequest) { r.ClusterAddr = "host" },
			"pop": func(r *cluster.JoinRequest) { r.PoP = "a\nb" }, "labels": func(r *cluster.JoinRequest) { r.Labels = map[string]string{"": "x"} },
		} {
			bad := request
			change(&bad)
			if _, err := cluster.AskJoin(t.Context(), joining(network, "n2"), bad); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// Only so many are handled at a time.
		answer = nil
		results := make(chan error, 30)
		for i := range 30 {
			go func() {
				_, err := cluster.AskJoin(t.Context(), joining(network, fmt.Sprintf("m%d", i)), request)
				results <- err
			}()
		}
		begin := time.Now()
		synctest.Wait()
		for range 30 - 16 {
			wantJoinError(t, <-results, cluster.JoinBusy, "16 nodes")
		}
		wantTook(t, begin, 0)
		close(block)
		for range 16 {
			wantJoinError(t, <-results, cluster.JoinFailed, "can't be sent") // an answer without a cluster
		}
	})
}

// TestJoinHellos: the zero cluster and "any" are for joining alone, and joining is for nothing else.
func TestJoinHellos(t *testing.T) {
	for _, c := range []struct {
		h    cluster.Hello
		code cluster.Code
	}{
		{cluster.Hello{From: "n2", To: "any", Purpose: cluster.PurposeJoin}, cluster.CodeAccepted},
		{cluster.Hello{From: "n2", To: "n1", Purpose: cluster.PurposeJoin}, cluster.CodeWrongNode},
		{cluster.Hello{From: "n2", To: "any", Purpose: cluster.PurposeJoin, Cluster: ours}, cluster.CodeWrongCluster},
		{cluster.Hello{From: "n2", To: "any", Purpose: cluster.PurposeJoin, Group: 1}, cluster.CodeUnknownGroup},
		{cluster.Hello{From: "n2", To: "any", Purpose: cluster.PurposeHTTP}, cluster.CodeWrongCluster},
		{cluster.Hello{From: "n2", To: "n1", Purpose: cluster.PurposeHTTP}, cluster.CodeWrongCluster},
		{cluster.Hello{From: "n2", To: "any", Purpose: cluster.PurposeHTTP, Cluster: ours}, cluster.CodeWrongNode},
	} {
		synctest.Test(t, func(t *testing.T) {
			network := clustertest.New(clustertest.Options{})
			n1 := start(t, network, "n1")
			handle(t, n1, cluster.PurposeHTTP, echo)
			handleJoin(t, n1, welcome)
			conn, err := network.Node("n2").Dial(t.Context(), "n1")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			b, err := c.h.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write(b); err != nil {
				t.Fatal(err)
			}
			answer := make([]byte, 24)
			if _, err := io.ReadFull(conn, answer); err != nil || cluster.Code(answer[9]) != c.code {
				t.Errorf("%+v: got %v, %v, want %v", c.h, cluster.Code(answer[9]), err, c.code)
			}
		})
	}
}

// TestJoinHostile sends what no node does, behind a good hello.
func TestJoinHostile(t *testing.T) {
	frame := func(s string) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...) }
	for name, c := range map[string]struct {
		bytes []byte
		want  string        // in the answer; "" for none
		after time.Duration // until the connection ends
	}{
		"nothing":       {nil, "", 10 * time.Second},
		"half a length": {[]byte{0, 0}, "", 10 * time.Second},
		"half":          {frame(`{"version":1}`)[:9], "", 10 * time.Second},
		"oversize":      {[]byte{0, 0x10, 0, 1, '{'}, "a message of 1048577 bytes", time.Second},
		"empty":         {[]byte{0, 0, 0, 0}, "a message of 0 bytes", time.Second},
		"no JSON":       {frame("hello"), "bad_request", 0},
		"version":       {frame(`{"version":2,"new":[1]}`), `the message has version 2, this node knows 1`, 0},
		"unknown key":   {frame(`{"version":1,"node":"n2","colour":"blue"}`), "colour", 0},
		"two values":    {frame(`{"version":1,"node":"n2"} {}`), "bad_request", 0},
		"no values":     {frame(`{"version":1,"node":"n2"}`), "incarnation: is empty", 0},
		"wrong type":    {frame(`{"version":1,"node":7}`), "bad_request", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := clustertest.New(clustertest.Options{})
				n1 := start(t, network, "n1")
				handleJoin(t, n1, func(context.Context, cluster.JoinRequest) (cluster.JoinAnswer, error) {
					t.Error("handled")
					return cluster.JoinAnswer{}, nil
				})
				conn, err := cluster.Join(t.Context(), joining(network, "n2"))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				begin := time.Now()
				if _, err := conn.Write(c.bytes); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(conn)
				if err != nil || !strings.Contains(string(got), c.want) || (c.want == "") != (len(got) == 0) {
					t.Errorf("answer %q, %v, want %q", got, err, c.want)
				}
				wantTook(t, begin, c.after)
			})
		})
	}
}

// TestJoinSlow: neither end waits for ever for the other.
func TestJoinSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		n1 := start(t, network, "n1")
		handleJoin(t, n1, func(ctx context.Context, r cluster.JoinRequest) (cluster.JoinAnswer, error) {
			<-ctx.Done()
			return cluster.JoinAnswer{}, ctx.Err()
		})
		begin := time.Now()
		_, err := cluster.AskJoin(t.Context(), joining(network, "n2"), request)
		wantJoinError(t, err, cluster.JoinFailed, "deadline")
		wantTook(t, begin, time.Minute)

		l, err := network.Node("n3").Listen()
		if err != nil {
			t.Fatal(err)
		}
		go func() { // who takes connections, and says nothing
			for {
				if c, err := l.Accept(); err != nil {
					return
				} else {
					t.Cleanup(func() { c.Close() })
				}
			}
		}()
		begin = time.Now()
		silent := joining(network, "n2")
		silent.Addr = "n3"
		_, err = cluster.AskJoin(t.Context(), silent, request)
		if u := wantUnreachable(t, err, context.DeadlineExceeded); u.Node != "n3" {
			t.Errorf("unreachable is %q", u.Node)
		}
		wantTook(t, begin, 10*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = cluster.AskJoin(ctx, joining(network, "n2"), request)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		l.Close()
	})
}

func TestJoinTLS(t *testing.T) {
	for _, c := range []struct {
		name   string
		client func(t *testing.T, join cluster.JoinConfig, dir string) cluster.JoinConfig
		server string // whose certificate n1 has
		want   string
	}{
		{"another node's certificate at the dialer", func(t *testing.T, j cluster.JoinConfig, dir string) cluster.JoinConfig { return anyOf(t, j, dir, "n3") }, "n1", "the certificate is of node"},
		{"no TLS at the dialer", func(_ *testing.T, j cluster.JoinConfig, _ string) cluster.JoinConfig { return j }, "n1", ""},
		{"another cluster's acceptor", func(t *testing.T, j cluster.JoinConfig, _ string) cluster.JoinConfig {
			return anyOf(t, j, authority(t, "n2"), "n2")
		}, "n1", "certificate"},
		{"another cluster's dialer", func(t *testing.T, j cluster.JoinConfig, dir string) cluster.JoinConfig {
			j = anyOf(t, j, authority(t, "n2"), "n2")
			j.ClientTLS.VerifyConnection = func(tls.ConnectionState) error { return nil }
			return j
		}, "n1", ""},
		{"any node of the cluster", func(t *testing.T, j cluster.JoinConfig, dir string) cluster.JoinConfig { return anyOf(t, j, dir, "n2") }, "n3", "ok"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := clustertest.New(clustertest.Options{})
				dir := authority(t, "n1", "n2", "n3")
				n1 := run(t, secure(t, configure(t, network, "n1"), dir, c.server))
				asked := false
				handleJoin(t, n1, func(ctx context.Context, r cluster.JoinRequest) (cluster.JoinAnswer, error) {
					asked = true
					return welcome(ctx, r)
				})
				_, err := cluster.AskJoin(t.Context(), c.client(t, joining(network, "n2"), dir), request)
				if c.want == "ok" {
					if err != nil {
						t.Fatal(err)
					}
					return
				}
				if err == nil || asked || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, asked %t, want %q", err, asked, c.want)
				}
			})
		})
	}
}
