package sqlnode

import (
	"context"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/nearsql/nearsql/sqlnode/quickhttp"
)

// publicServer serves the API to clients.
type publicServer interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

func (n *Node) newPublicServer() publicServer {
	srv := &http.Server{Handler: n.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: log.New(logWriter{n.log}, "", 0)}
	if n.cfg.TLSCert != "" {
		return srv
	}
	return &quickhttp.Server{HTTP: srv}
}

// logWriter gives what net/http has to say to the node's log.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(b []byte) (int, error) {
	w.log.Debug("http", "message", string(b))
	return len(b), nil
}
