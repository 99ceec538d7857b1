package leader

import (
	"context"
	"io"
	"log"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// hcLog gives what raft and raft-wal log to slog, one level lower: their Info
// is of every election, ours of changes of state.
type hcLog struct {
	log  *slog.Logger
	name string
	args []any
}

var _ hclog.Logger = (*hcLog)(nil)

func newHCLog(l *slog.Logger) hclog.Logger { return &hcLog{log: l.With("part", "raft"), name: "raft"} }

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelError
	case hclog.Warn:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

// ofOthers are the beginnings of errors that raft logs, each time it tries again,
// because of other nodes. What changes in that is logged elsewhere.
var ofOthers = [...]string{
	"failed to appendEntries to", "failed to heartbeat to", "failed to make requestVote RPC", "failed to send snapshot to",
	"failed to install snapshot", "failed to start pipeline", "failed to pipeline", "failed to decode incoming", "failed to flush response",
	"failed to accept connection", "failed to copy snapshot", "failed to receive whole snapshot", "failed to get log", "peer has newer term",
}

func isOfOthers(msg string) bool {
	for _, s := range ofOthers {
		if strings.HasPrefix(msg, s) {
			return true
		}
	}
	return false
}

func (h *hcLog) Log(level hclog.Level, msg string, args ...any) {
	l := slogLevel(level)
	if isOfOthers(msg) {
		l = slog.LevelDebug
	}
	if !h.log.Enabled(context.Background(), l) {
		return
	}
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			if format, ok := f[0].(string); ok {
				args[i] = formatted{format, f[1:]}
			}
		}
	}
	h.log.Log(context.Background(), l, msg, args...)
}

func (h *hcLog) Trace(msg string, args ...any) { h.Log(hclog.Trace, msg, args...) }
func (h *hcLog) Debug(msg string, args ...any) { h.Log(hclog.Debug, msg, args...) }
func (h *hcLog) Info(msg string, args ...any)  { h.Log(hclog.Info, msg, args...) }
func (h *hcLog) Warn(msg string, args ...any)  { h.Log(hclog.Warn, msg, args...) }
func (h *hcLog) Error(msg string, args ...any) { h.Log(hclog.Error, msg, args...) }

func (h *hcLog) enabled(l hclog.Level) bool {
	return h.log.Enabled(context.Background(), slogLevel(l))
}

func (h *hcLog) IsTrace() bool { return h.enabled(hclog.Trace) }
func (h *hcLog) IsDebug() bool { return h.enabled(hclog.Debug) }
func (h *hcLog) IsInfo() bool  { return h.enabled(hclog.Info) }
func (h *hcLog) IsWarn() bool  { return h.enabled(hclog.Warn) }
func (h *hcLog) IsError() bool { return h.enabled(hclog.Error) }

func (h *hcLog) ImpliedArgs() []any { return h.args }

func (h *hcLog) With(args ...any) hclog.Logger {
	return &hcLog{log: h.log.With(args...), name: h.name, args: append(h.args[:len(h.args):len(h.args)], args...)}
}

func (h *hcLog) Name() string { return h.name }

func (h *hcLog) Named(name string) hclog.Logger {
	return &hcLog{log: h.log, name: h.name + "." + name, args: h.args}
}

func (h *hcLog) ResetNamed(name string) hclog.Logger {
	return &hcLog{log: h.log, name: name, args: h.args}
}

// SetLevel does nothing: the level is slog's.
func (h *hcLog) SetLevel(hclog.Level) {}

func (h *hcLog) GetLevel() hclog.Level {
	for _, l := range []hclog.Level{hclog.Debug, hclog.Warn} {
		if h.enabled(l) {
			return l
		}
	}
	return hclog.Error
}

func (h *hcLog) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(lineWriter{h}, "", 0)
}

func (h *hcLog) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return lineWriter{h} }

// lineWriter logs each line written.
type lineWriter struct{ log *hcLog }

func (w lineWriter) Write(p []byte) (int, error) {
	w.log.Debug(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}
