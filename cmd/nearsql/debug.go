package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/urfave/cli/v2"
)

// debugFlag names the listener of serveDebug.
func debugFlag() cli.Flag {
	return &cli.StringFlag{Name: "debug-listen", Usage: "serve profiles of this process (Go's pprof) at `HOST:PORT`, without a token; only on loopback (default: not at all)",
		EnvVars: []string{"NEARSQL_DEBUG_LISTEN"}}
}

// checkDebug refuses to show profiles elsewhere: they have SQL and memory of all tenants in them.
func checkDebug(listen string) error {
	if listen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return usagef("--debug-listen %q: want HOST:PORT", listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usagef("--debug-listen is for loopback only, not for %s", listen)
	}
	return nil
}

// serveDebug serves profiles until end is called, which returns when the server has ended. Without an address it does nothing.
func serveDebug(ctx context.Context, set settings) (end func(), err error) {
	if set.DebugListen == "" {
		return func() {}, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", set.DebugListen)
	if err != nil {
		return nil, fmt.Errorf("--debug-listen: %w", err)
	}
	s := &http.Server{Handler: debugHandler(l.Addr().String()), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(l) // ends by Close
	}()
	set.Log.Info("profiles", "url", "http://"+l.Addr().String()+"/debug/pprof/")
	return func() {
		_ = s.Close()
		<-ended
	}, nil
}

// debugHandler serves what is asked for by address: a page of a browser on this machine, which has resolved
// a name of its own to it, gets nothing.
func debugHandler(addr string) http.Handler {
	_, port, _ := net.SplitHostPort(addr)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index) // has the named ones
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != addr && r.Host != net.JoinHostPort("localhost", port) {
			http.Error(w, "ask for http://"+addr, http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
