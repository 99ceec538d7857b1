package exchange

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/wire"
)

// noHost is a Host without files.
type noHost struct{}

var errNone = errors.New("none")

func noDial(context.Context, string) (net.Conn, error) { return nil, errNone }

func (noHost) Peers(wire.TenantID) []Peer                                         { return nil }
func (noHost) Head(context.Context, wire.TenantID) (crr.Head, error)              { return crr.Head{}, errNone }
func (noHost) Write(context.Context, wire.TenantID, func(*crr.Site) error) error  { return errNone }
func (noHost) Read(context.Context, wire.TenantID, func(*crr.Reader) error) error { return errNone }
func (noHost) Snapshot(context.Context, wire.TenantID, io.Writer) error           { return errNone }
func (noHost) Sent(wire.TenantID, crr.FileID, crr.HLC) error                      { return nil }
func (noHost) Rewound(wire.TenantID, *crr.RewoundError)                           {}
func (noHost) Behind(wire.TenantID, error)                                        {}
