package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

//go:embed crsqlite.mjs
var crsqliteScript []byte

// crsqliteRound measures cr-sqlite's merge of rows that are new, and of newer values of all columns, in changes a second. dir is where
// the npm package is installed.
func crsqliteRound(ctx context.Context, dir string, rows int) (rates [2]float64, err error) {
	script := filepath.Join(dir, "crsqlite.mjs")
	if err := os.WriteFile(script, crsqliteScript, 0o600); err != nil {
		return rates, err
	}
	cmd := exec.CommandContext(ctx, "node", script, strconv.Itoa(rows))
	cmd.Dir = dir
	var errText bytes.Buffer
	cmd.Stderr = &errText
	out, err := cmd.Output()
	if err != nil {
		return rates, fmt.Errorf("cr-sqlite: %w: %s", err, errText.Bytes())
	}
	var got struct{ New, Newer float64 }
	if err := json.Unmarshal(out, &got); err != nil {
		return rates, fmt.Errorf("cr-sqlite: %w", err)
	}
	if got.New <= 0 || got.Newer <= 0 {
		return rates, errors.New("cr-sqlite: no rates")
	}
	return [2]float64{got.New, got.Newer}, nil
}
