package exchange

import (
	"context"
	"io"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/wire"
)

// Peer is another site of a tenant.
type Peer struct {
	Node   string
	Site   crr.SiteID // 0: it has no number yet; it may ask, and is not asked
	File   crr.FileID
	Backup bool // it keeps a copy for the others' sake (a node of the tenant's home group): asked when no other has more
}

// Host is the node: its files, and who else has them. Its methods may be called from any goroutine, several at a time.
type Host interface {
	// Peers are the other nodes that are sites of a tenant and not retired, the nearest first; inside its jurisdiction. It must be quick.
	Peers(id wire.TenantID) []Peer
	// Head is what the tenant's file has, from its newest commit. The file is opened if it is not.
	Head(ctx context.Context, id wire.TenantID) (crr.Head, error)
	// Write runs f on the tenant's site, when nothing else uses it. The node tells those who wait for a vector.
	Write(ctx context.Context, id wire.TenantID, f func(*crr.Site) error) error
	// Read runs f on a reader of the tenant's file. At most two run at a time for one tenant; f may call Head and Sent.
	Read(ctx context.Context, id wire.TenantID, f func(*crr.Reader) error) error
	// Snapshot writes a copy of the file that crr.Snapshot made.
	Snapshot(ctx context.Context, id wire.TenantID, w io.Writer) error

	// Sent notes that the file's own transactions up to a reading are about to leave this node; for crr.Site.CheckSent. It must be
	// quick; an error keeps them here.
	Sent(id wire.TenantID, file crr.FileID, upto crr.HLC) error
	// Rewound says that the file has given up its number: it needs a new one. It must be quick.
	Rewound(id wire.TenantID, err *crr.RewoundError)
	// Behind says that the file can't be brought up by batches: the node fetches a copy (Exchange.Fetch), has it take a new number,
	// and salvages what only the old file has. It is said again until that has happened, and must be quick.
	Behind(id wire.TenantID, why error)
}
