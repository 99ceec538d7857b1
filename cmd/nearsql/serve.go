package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/tenant"
)

// settings is what the flags of serve say. node.go turns it into a sqlnode.Config.
type settings struct {
	DataDir, Listen     string
	NodeID, PoP, Region string
	Labels              map[string]string
	TLSCert, TLSKey     string
	NoAuth, PlainHTTP   bool
	Cluster             clusterSettings
	CORSOrigins         []string
	DebugListen         string        // HOST:PORT of profiles; "" for none
	Limits              tenant.Limits // of tenants that ask for nothing else
	Tuning              tuning
	Log                 *slog.Logger
	checkFiles          string // program that looks at imported files; "" means this process
}

// gcPercent is how much the heap may grow before it is collected, as in GOGC.
const gcPercent = 300

func serveFlags() []cli.Flag {
	return append([]cli.Flag{
		configFlag(),
		dataDirFlag("keep all data in `DIR`"),
		&cli.StringFlag{Name: "listen", Usage: "take requests at `HOST:PORT`", Value: defaultListen, EnvVars: []string{"NEARSQL_LISTEN"}},
		&cli.StringFlag{Name: "node-id", Usage: "`NAME` of this node in answers and logs (default: one made at the first start)", EnvVars: []string{"NEARSQL_NODE_ID"}},
		&cli.StringFlag{Name: "pop", Usage: "`NAME` of the point of presence that this node is in", EnvVars: []string{"NEARSQL_POP"}},
		&cli.StringFlag{Name: "region", Usage: "`NAME` of the region, for jurisdictions", EnvVars: []string{"NEARSQL_REGION"}},
		&cli.StringSliceFlag{Name: "label", Usage: "`KEY=VALUE` of this node; repeatable", EnvVars: []string{"NEARSQL_LABELS"}},
		&cli.StringFlag{Name: "tls-cert", Usage: "serve HTTPS with the certificates in PEM `FILE`", EnvVars: []string{"NEARSQL_TLS_CERT"}},
		&cli.StringFlag{Name: "tls-key", Usage: "`FILE` with the certificate's private key", EnvVars: []string{"NEARSQL_TLS_KEY"}},
		&cli.StringSliceFlag{Name: "cors-origin", Usage: "let browser pages of `ORIGIN` send requests; repeatable", EnvVars: []string{"NEARSQL_CORS_ORIGINS"}},
		&cli.StringSliceFlag{Name: "limit", Usage: "default limit of tenants, as `NAME=VALUE` (size=1GiB, statement_time=5s); repeatable", EnvVars: []string{"NEARSQL_LIMITS"}},
		&cli.StringFlag{Name: "log-format", Usage: "`FORMAT` of the log on standard error, text or json", Value: "text", EnvVars: []string{"NEARSQL_LOG_FORMAT"}},
		&cli.StringFlag{Name: "log-level", Usage: "least `LEVEL` that is logged: debug, info, warn or error", Value: "info", EnvVars: []string{"NEARSQL_LOG_LEVEL"}},
		debugFlag(),
		&cli.BoolFlag{Name: "insecure-no-auth", Usage: "ask for no token; only on loopback", EnvVars: []string{"NEARSQL_INSECURE_NO_AUTH"}},
		&cli.BoolFlag{Name: "insecure-plain-http", Usage: "listen beyond loopback without TLS: whoever is on the way reads tokens and data", EnvVars: []string{"NEARSQL_INSECURE_PLAIN_HTTP"}},
	}, append(clusterFlags(), tuningFlags()...)...)
}

func serveCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "Run a node",
		Description: "SIGTERM and SIGINT stop the node when the requests that it has are answered; a second one stops it at\n" +
			"once. What was answered is on disk either way. The root key is made at the first start, in DIR/root.key.",
		Flags: serveFlags(),
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			if err := applyConfig(c, sectionServe, serveFlags()); err != nil {
				return err
			}
			set, err := serveSettings(c, s.err)
			if err != nil {
				return err
			}
			if err := join(c.Context, set); err != nil {
				return err
			}
			if err := relaxTimers(); err != nil {
				set.Log.Warn("timers keep the kernel's slack", "err", err)
			}
			n, err := newNode(set)
			if err != nil {
				return err
			}
			endDebug, err := serveDebug(c.Context, set)
			if err != nil {
				return err
			}
			defer endDebug()
			if os.Getenv("GOGC") == "" {
				// Most of the heap is short-lived: to collect it less often saves a sixth of the CPU of writes in a cluster,
				// for some hundred megabytes at most, since what is large is bounded otherwise.
				debug.SetGCPercent(gcPercent)
			}
			signals := make(chan os.Signal, 2)
			signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
			defer signal.Stop(signals)
			return serve(c.Context, n, set, s, signals, os.Exit)
		},
	}
}

func serveSettings(c *cli.Context, logTo io.Writer) (settings, error) {
	set := settings{
		DataDir: c.String("data-dir"), Listen: c.String("listen"),
		NodeID: c.String("node-id"), PoP: c.String("pop"), Region: c.String("region"),
		TLSCert: c.String("tls-cert"), TLSKey: c.String("tls-key"),
		NoAuth: c.Bool("insecure-no-auth"), PlainHTTP: c.Bool("insecure-plain-http"),
		CORSOrigins: c.StringSlice("cors-origin"), Labels: make(map[string]string),
		DebugListen: c.String("debug-listen"),
	}
	for _, name := range []struct{ flag, value string }{{"node-id", set.NodeID}, {"pop", set.PoP}, {"region", set.Region}} {
		if name.value == "" {
			continue
		}
		if err := tenant.CheckLabel(name.value); err != nil {
			return set, usagef("--%s: %v", name.flag, err)
		}
	}
	for _, text := range c.StringSlice("label") {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return set, usagef("--label %q: want KEY=VALUE", text)
		}
		if _, twice := set.Labels[key]; twice {
			return set, usagef("--label %s is given twice", key)
		}
		set.Labels[key] = value
	}
	for _, text := range c.StringSlice("limit") {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return set, usagef("--limit %q: want NAME=VALUE", text)
		}
		if err := set.Limits.Set(name, value); err != nil {
			return set, usagef("--limit %s: %v", text, err)
		}
	}
	err := errors.Join(checkListen(set), checkDebug(set.DebugListen))
	if err != nil {
		return set, err
	}
	if set.Cluster, err = readCluster(c); err != nil {
		return set, err
	}
	tune, err := readTuning(c)
	if err != nil {
		return set, err
	}
	set.Tuning = tune
	log, err := newLog(logTo, c.String("log-format"), c.String("log-level"))
	if err != nil {
		return set, err
	}
	set.Log = log
	if set.checkFiles, err = os.Executable(); err != nil {
		return set, fmt.Errorf("find this program, to start it for files that are imported: %w", err)
	}
	return set, nil
}

// checkListen refuses to be reachable from elsewhere without TLS or without
// authentication, unless a flag says so.
func checkListen(set settings) error {
	host, _, err := net.SplitHostPort(set.Listen)
	if err != nil {
		return usagef("--listen %q: want HOST:PORT", set.Listen)
	}
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	switch {
	case (set.TLSCert == "") != (set.TLSKey == ""):
		return usagef("--tls-cert and --tls-key are to be given together")
	case set.NoAuth && !loopback:
		return usagef("--insecure-no-auth is for loopback only, not for --listen %s", set.Listen)
	case !loopback && set.TLSCert == "" && !set.PlainHTTP:
		return usagef("--listen %s is reachable from elsewhere: give --tls-cert and --tls-key, or say --insecure-plain-http", set.Listen)
	}
	return nil
}

func newLog(w io.Writer, format, level string) (*slog.Logger, error) {
	var o slog.HandlerOptions
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usagef("--log-level: %q is none of debug, info, warn, error", level)
	}
	o.Level = l
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, &o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &o)), nil
	}
	return nil, usagef("--log-format: %q is neither text nor json", format)
}

// node is what serve needs of a sqlnode.Node.
type node interface {
	// Run serves until ctx ends, and returns when all that it started has ended. It calls ready, once, with
	// the node's address when it takes requests.
	Run(ctx context.Context, ready func(addr net.Addr)) error
}

// serve runs a node until a signal comes. A second signal calls exit.
func serve(ctx context.Context, n node, set settings, s stdio, signals <-chan os.Signal, exit func(int)) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case sig := <-signals:
			set.Log.Info("stopping", "signal", sig.String())
			cancel()
		case <-ended:
			return
		}
		select {
		case <-signals:
			set.Log.Warn("stopping at once")
			exit(exitInterrupted)
		case <-ended:
		}
	}()
	file := filepath.Join(set.DataDir, addressFile)
	err := n.Run(ctx, func(addr net.Addr) {
		url := nodeURL(addr, set.TLSCert != "")
		if err := os.WriteFile(file, []byte(url+"\n"), 0o600); err != nil {
			set.Log.Warn("commands on this machine will need --url", "err", err)
		}
		fmt.Fprintf(s.out, "nearsql serves at %s, data in %s\n", url, set.DataDir)
	})
	stopped := ctx.Err() != nil
	close(ended)
	cancel()
	<-watched
	os.Remove(file)
	if stopped && errors.Is(err, context.Canceled) {
		return nil // it was told to stop, and did
	}
	return err
}

// nodeURL is how commands on this machine reach a node that listens at addr.
func nodeURL(addr net.Addr, tls bool) string {
	scheme := "http"
	if tls {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return scheme + "://" + addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
