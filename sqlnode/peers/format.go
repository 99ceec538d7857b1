package peers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
)

// FileName is the file's name in the data directory.
const FileName = "peers.json"

// Version is the version of the file that this package writes and reads.
const Version = 1

// Bounds of what is kept.
const (
	fileMax    = 16 << 20 // bytes
	addrsMax   = 4096
	removedMax = 65536
	addrMax    = 512 // bytes
)

// file is FORMAT.md's.
type file struct {
	Version int               `json:"version"`
	Peers   map[string]string `json:"peers"`
	Removed []string          `json:"removed"`
}

// VersionError says that the file is of a version that this program does not know.
type VersionError struct{ Found int }

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("the file has version %d, this program knows %d", e.Found, Version)
}

func (s state) encode() ([]byte, error) {
	f := file{Version: Version, Peers: s.addrs, Removed: slices.Sorted(maps.Keys(s.removed))}
	if f.Removed == nil {
		f.Removed = []string{}
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

func decode(b []byte) (state, error) {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return state{}, err
	}
	if v.Version != Version {
		return state{}, &VersionError{v.Version}
	}
	var f file
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return state{}, err
	}
	if _, err := d.Token(); err != io.EOF {
		return state{}, errors.New("something follows the JSON value")
	}
	return makeState(f.Peers, f.Removed)
}

// checkAddr refuses what can't be dialled.
func checkAddr(s string) error {
	if len(s) > addrMax {
		return fmt.Errorf("address of %d bytes: at most %d are kept", len(s), addrMax)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("address %.80q is not HOST:PORT", s)
	}
	return nil
}
