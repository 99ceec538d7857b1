package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"
)

// waitFlags are those of commands that the cluster carries out after it has answered.
func waitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "wait", Usage: "wait until it is done (--wait=false: do not)", Value: true},
		&cli.DurationFlag{Name: "timeout", Usage: "wait no longer than `DURATION`", Value: 5 * time.Minute},
	}
}

// pollEvery is how long a command waits before it looks again.
const pollEvery = 500 * time.Millisecond

// waitUntil looks again and again until it is done, and prints how it stands whenever that has changed.
func waitUntil(ctx context.Context, progress io.Writer, timeout time.Duration, look func(context.Context) (done bool, stands string, err error)) error {
	began := time.Now()
	for said := ""; ; {
		done, stands, err := look(ctx)
		if done || err != nil {
			return err
		}
		if stands != said {
			if _, err := fmt.Fprintf(progress, "%s\n", printable(stands)); err != nil {
				return err
			}
			said = stands
		}
		if time.Since(began)+pollEvery > timeout {
			return fmt.Errorf("not done after %v; it goes on: %s", timeout, stands)
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
