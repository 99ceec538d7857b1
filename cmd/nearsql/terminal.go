package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/peterh/liner"
)

// isTerminal says whether in is a terminal to talk at.
func isTerminal(in io.Reader) bool {
	if in != os.Stdin {
		return false
	}
	_, err := liner.TerminalMode()
	return err == nil
}

// terminal is the shell at a terminal, until .quit or Ctrl-D.
func (sh *shell) terminal(ctx context.Context) error {
	ed := liner.NewLiner()
	defer ed.Close()
	ed.SetCtrlCAborts(true)
	ed.SetMultiLineMode(true)
	ed.SetCompleter(completeDot)
	history := historyFile(os.Getenv)
	loadHistory(ed, history)
	defer func() {
		if err := saveHistory(ed, history); err != nil {
			fmt.Fprintf(sh.errOut, "nearsql: history was not saved: %v\n", err)
		}
	}()
	fmt.Fprintf(sh.out, "nearsql at %s. Statements end with ; and .help lists the commands.\n", printable(sh.node.URL()))
	in := &input{}
	for ctx.Err() == nil {
		line, err := ed.Prompt(sh.prompt(in))
		switch {
		case errors.Is(err, liner.ErrPromptAborted): // Ctrl-C forgets what was typed
			in.split.Drop()
			continue
		case errors.Is(err, io.EOF):
			fmt.Fprintln(sh.out)
			return nil
		case err != nil:
			return err
		}
		if strings.TrimSpace(line) != "" {
			ed.AppendHistory(line)
		}
		if err := sh.line(ctx, in, line+"\n"); err != nil && !errors.Is(err, errQuit) {
			sh.show(err)
		}
		if sh.quitting {
			return nil
		}
	}
	return ctx.Err()
}

// prompt says which tenant is asked, and whether a statement or a batch has begun.
func (sh *shell) prompt(in *input) string {
	name := sh.tenant
	if name == "" {
		name = "no tenant"
	}
	switch {
	case in.split.Pending():
		return strings.Repeat(" ", len(name)) + "…> "
	case sh.batch != nil:
		return name + "*> "
	}
	return name + "> "
}

func completeDot(line string) []string {
	if !strings.HasPrefix(line, ".") {
		return nil
	}
	var found []string
	for _, c := range dotCommands() {
		if strings.HasPrefix(c.name, line) {
			found = append(found, c.name+" ")
		}
	}
	return found
}

// historyFile is where the shell keeps what was typed; "" is nowhere.
func historyFile(env func(string) string) string {
	if dir := env("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "nearsql", "history")
	}
	if home := env("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".nearsql_history")
	}
	return ""
}

// history is what liner keeps: so many lines that a file of it stays small.
type history interface {
	ReadHistory(io.Reader) (int, error)
	WriteHistory(io.Writer) (int, error)
}

// loadHistory reads the file, if there is one. Without it the shell works as well.
func loadHistory(h history, file string) {
	if file == "" {
		return
	}
	f, err := os.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	h.ReadHistory(io.LimitReader(f, 4<<20)) // a damaged line only ends it
}

// saveHistory writes the file anew, for its owner alone: statements hold data.
func saveHistory(h history, file string) error {
	if file == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".nearsql_history.*") // mode 0600
	if err != nil {
		return err
	}
	_, err = h.WriteHistory(f)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
