package importer

import (
	"context"
	"io"
)

// Importer does the work of CheckFile and FromSQL where New or Child said.
type Importer struct {
	exe string // program of the child process; "" means in this process
	// MaxBytes bounds the database that FromSQL makes; 0 means DefaultMaxBytes.
	MaxBytes int64
}

// New gives an Importer that works in this process: for tests, and where the
// files are trusted.
func New() *Importer { return &Importer{} }

// Child gives an Importer that starts exe for each file. exe is nearsql itself,
// or a program that calls ChildMain with the arguments that follow ChildVerb.
func Child(exe string) *Importer { return &Importer{exe: exe} }

// CheckFile is the function CheckFile.
func (i *Importer) CheckFile(ctx context.Context, path string) (Info, error) {
	if i.exe == "" {
		return CheckFile(ctx, path)
	}
	v, err := i.child(ctx, nil, path)
	if err != nil {
		return Info{}, err
	}
	return v.Info, v.err()
}

// FromSQL is the function FromSQL, with the Importer's bound.
func (i *Importer) FromSQL(ctx context.Context, r io.Reader, out string) error {
	if i.exe == "" {
		return fromSQL(ctx, r, out, i.maxBytes())
	}
	v, err := i.child(ctx, r, fromSQLFlag, maxBytesFlag, out)
	if err != nil {
		return err
	}
	return v.err()
}

func (i *Importer) maxBytes() int64 {
	if i.MaxBytes == 0 {
		return DefaultMaxBytes
	}
	return i.MaxBytes
}
