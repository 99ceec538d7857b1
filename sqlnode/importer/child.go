package importer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// ChildVerb is the hidden verb of nearsql that calls ChildMain.
const ChildVerb = "check-file"

// Flags of the verb.
const (
	fromSQLFlag  = "--from-sql"
	maxBytesFlag = "--max-bytes"
)

const (
	maxVerdict = 1 << 20 // bytes of a verdict
	maxStderr  = 4 << 10 // bytes of a child's last words that are kept
	// killDelay is how long a child that is told to end may take to do so.
	killDelay = 5 * time.Second
)

// verdict is what a child prints, as one JSON object.
type verdict struct {
	Info  Info   `json:"info,omitzero"`
	Fault *fault `json:"fault,omitempty"`
}

// fault is an error on its way from a child.
type fault struct {
	Kind     string   `json:"kind"` // "database", "sql", or "other"
	What     string   `json:"what"`
	Problems []string `json:"problems,omitempty"`
	Line     int      `json:"line,omitempty"`
	Excerpt  string   `json:"excerpt,omitempty"`
}

func faultOf(err error) *fault {
	var bad *BadDatabaseError
	var sql *SQLError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &bad):
		return &fault{Kind: "database", What: bad.What, Problems: bad.Problems}
	case errors.As(err, &sql):
		return &fault{Kind: "sql", What: sql.Message, Line: sql.Line, Excerpt: sql.Excerpt}
	}
	return &fault{Kind: "other", What: err.Error()}
}

func (v verdict) err() error {
	switch f := v.Fault; {
	case f == nil:
		return nil
	case f.Kind == "database":
		return &BadDatabaseError{What: f.What, Problems: f.Problems}
	case f.Kind == "sql":
		return &SQLError{Line: f.Line, Message: f.What, Excerpt: f.Excerpt}
	default:
		return fmt.Errorf("the process that checks files: %s", f.What)
	}
}

// ChildMain is what the child process does: `PATH` looks at a file,
// `--from-sql OUT` makes OUT from the dump in in. It prints a verdict to out; its error
// says that it could not.
func ChildMain(ctx context.Context, path string, dump bool, maxBytes int64, in io.Reader, out io.Writer) error {
	var v verdict
	var err error
	if dump {
		err = fromSQL(ctx, in, path, (&Importer{MaxBytes: maxBytes}).maxBytes())
	} else {
		v.Info, err = CheckFile(ctx, path)
	}
	v.Fault = faultOf(err)
	return json.NewEncoder(out).Encode(v)
}

// child starts the program and reads its verdict.
func (i *Importer) child(ctx context.Context, in io.Reader, args ...string) (verdict, error) {
	argv := []string{ChildVerb}
	for _, a := range args {
		argv = append(argv, a)
		if a == maxBytesFlag {
			argv = append(argv, strconv.FormatInt(i.maxBytes(), 10))
		}
	}
	// What comes last is a path, whatever it looks like.
	argv = append(argv[:len(argv)-1], "--", args[len(args)-1])
	cmd := exec.CommandContext(ctx, i.exe, argv...)
	// Nothing of the node's environment is the child's business, secrets least of all.
	cmd.Env = []string{"GOTRACEBACK=none"}
	if dir, ok := os.LookupEnv("TMPDIR"); ok {
		cmd.Env = append(cmd.Env, "TMPDIR="+dir)
	}
	cmd.WaitDelay = killDelay
	stdout, stderr := &capped{max: maxVerdict}, &capped{max: maxStderr}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	source := &faultyReader{r: in}
	if in != nil {
		cmd.Stdin = source
	}
	err := cmd.Run()
	if ctx.Err() != nil {
		return verdict{}, ctx.Err()
	}
	// When the child ended first, copying to it fails; its verdict says why it did.
	var v verdict
	if jerr := json.Unmarshal(stdout.Bytes(), &v); jerr == nil {
		if serr := source.failed(); serr != nil {
			// The child saw the end of a dump that did not end there.
			return verdict{}, serr
		}
		return v, nil
	} else if err == nil {
		err = fmt.Errorf("it printed no verdict: %w", jerr)
	}
	return verdict{}, &DiedError{Err: err, Stderr: strings.TrimSpace(strings.ToValidUTF8(stderr.String(), "?"))}
}

// capped keeps the first bytes that are written to it.
type capped struct {
	bytes.Buffer
	max int
}

func (c *capped) Write(p []byte) (int, error) {
	c.Buffer.Write(p[:min(len(p), max(c.max-c.Len(), 0))])
	return len(p), nil
}

// faultyReader remembers the error of the reader below, which the child can't
// tell from the end of the dump. It is read by one goroutine, which has ended
// when failed is called.
type faultyReader struct {
	r   io.Reader
	err error
}

func (f *faultyReader) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF {
		f.err = fmt.Errorf("read the dump: %w", err)
	}
	return n, err
}

func (f *faultyReader) failed() error { return f.err }
