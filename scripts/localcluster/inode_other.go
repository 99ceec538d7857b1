//go:build !linux

package localcluster

import (
	"errors"
	"net/netip"
)

// inodeOf is for Linux.
func inodeOf(_, _ netip.AddrPort) (string, error) {
	return "", errors.New("only Linux tells which process has a connection")
}
