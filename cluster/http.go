package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// HTTPListener returns the listener for an http.Server that answers other nodes. With ConnContext, its handlers know which
// node asks. It is net/http as everywhere else, but nobody who is not of the cluster gets as far as a first byte of it.
func (n *Net) HTTPListener() (*Acceptor, error) { return n.Listen(PurposeHTTP) }

// HTTPTransport returns what sends requests to other nodes, by URLs like http://NODE/path. Connections are kept for
// further requests, within the bounds of Config. All callers share them; they end with Run.
// The error of a request that got no connection wraps Dial's.
func (n *Net) HTTPTransport() http.RoundTripper { return n.http }

func (n *Net) newHTTPTransport() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			node, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			if port != "80" {
				return nil, fmt.Errorf("node %s is asked by http://%s/, without a port", node, node)
			}
			return n.Dial(ctx, node, PurposeHTTP, 0)
		},
		DialTLSContext: func(_ context.Context, _, addr string) (net.Conn, error) {
			return nil, errors.New("nodes are asked by http: URLs; the cluster's TLS is below them")
		},
		// Answers between nodes are compressed by those who know that it is worth it.
		DisableCompression:    true,
		MaxConnsPerHost:       n.cfg.HTTPConnsPerNode,
		MaxIdleConnsPerHost:   n.cfg.HTTPIdlePerNode,
		MaxIdleConns:          httpIdleMax,
		IdleConnTimeout:       n.cfg.HTTPIdleTimeout,
		ExpectContinueTimeout: time.Second,
		WriteBufferSize:       httpBuffer,
		ReadBufferSize:        httpBuffer,
	}
}

const (
	httpIdleMax = 512      // idle connections to all nodes
	httpBuffer  = 16 << 10 // bytes
)
