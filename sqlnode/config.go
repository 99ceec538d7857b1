package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/tenant"
)

// Config is what a node is made of. DefaultConfig has what Validate wants; a zero number or duration
// means the default.
type Config struct {
	DataDir string
	Listen  string // HOST:PORT of the public listener; "" for none (an embedded node)
	TLSCert string // PEM files; both or none
	TLSKey  string

	// ClusterListen is the HOST:PORT at which other nodes reach this one; "" for a node that stays alone.
	ClusterListen string
	// ClusterAdvertise is the HOST:PORT that other nodes dial; "" for the listener's own address.
	ClusterAdvertise string
	// ClusterCA, ClusterCert and ClusterKey are PEM files: the cluster's authority, and this node's
	// certificate from it. All or none.
	ClusterCA, ClusterCert, ClusterKey string
	// InsecurePlainCluster allows connections between nodes without TLS: every node is believed who it says
	// it is, and whoever reaches the port can be one.
	InsecurePlainCluster bool
	// HeartbeatTimeout is how long the voters of a group wait for a sign of the primary before they elect
	// another. Several round trips between them.
	HeartbeatTimeout time.Duration
	// ClusterListener and ClusterDialer take the place of TCP, for tests and for simulated distances.
	ClusterListener net.Listener
	ClusterDialer   func(ctx context.Context, addr string) (net.Conn, error)
	// PublicURL is where clients reach this node, for nodes and people that ask; "" for none.
	PublicURL string

	NodeID string // "" for one made at the first start
	PoP    string
	Region string
	Labels map[string]string

	// InsecureNoAuth asks nobody for a token. Only on loopback.
	InsecureNoAuth bool
	// InsecurePlainHTTP allows to listen beyond loopback without TLS.
	InsecurePlainHTTP bool

	HTTP   httpapi.Config
	Limits tenant.Limits // of tenants that ask for nothing else

	// MemoryVersions bounds the page versions in memory, in bytes: beyond half of it there are
	// checkpoints, beyond it writes are refused for a moment.
	MemoryVersions int64
	// MemoryPages bounds SQLite's page caches of the whole process, in bytes.
	MemoryPages int64
	// OpenTenants is how many tenants are kept open when nobody uses them.
	OpenTenants int
	// IdleClose is how long a tenant that nobody uses stays open.
	IdleClose time.Duration
	// TempMax bounds the temporary files of one connection, in bytes.
	TempMax int64
	// MinFreeSpace is how much of the disk is left alone: below it writes are refused, so that the log
	// never runs into the end of the disk. Bytes; negative for none.
	MinFreeSpace int64
	// CheckpointBytes and CheckpointAge say when the log is made short.
	CheckpointBytes int64
	CheckpointAge   time.Duration
	// LTXBytes, LTXAge and LTXRetention say when changes become LTX files, and how long those stay.
	LTXBytes     int64
	LTXAge       time.Duration
	LTXRetention time.Duration
	// ScrubEvery is how often all base files are read and checked, at 8 MiB a second for each group; the first time within an hour, so
	// that a node that is started often does it too.
	ScrubEvery time.Duration
	// CRRRetireAfter is for how long nobody must have heard of a site of a tenant's conflict-free tables until the tenant's primary retires it; also
	// for how long a node that a tenant was taken from is waited for, to say that it has sent what it wrote. Negative for ever.
	CRRRetireAfter time.Duration
	// DeleteGrace is how long a deleted tenant's data stays on disk.
	DeleteGrace time.Duration
	// ShutdownGrace is how long requests under way may take when the node stops.
	ShutdownGrace time.Duration

	// CheckProgram is the program that looks at imported files in a process of its own: nearsql
	// itself. "" means to look in this process, for embedders that trust their files.
	CheckProgram string

	FS  disk.FS // nil for the operating system's; MinFreeSpace is about that one alone
	Log *slog.Logger
	Now func() time.Time

	// feedTree says whom this node follows; nil for readpath.Tree. A simulation whose voters feed one or two nodes has relays with few nodes.
	feedTree feedTree

	space       *disk.Space // of the disk that DataDir is on; set by New
	publicConns int         // connections of clients at a time; set by New
}

// DefaultConfig is for a node on its own.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:7600", PoP: "local", HTTP: httpapi.DefaultConfig(),
		MemoryVersions: 512 << 20, MemoryPages: 1 << 30, OpenTenants: 1000, IdleClose: 5 * time.Minute,
		TempMax: 1 << 30, MinFreeSpace: 256 << 20,
		CheckpointBytes: 128 << 20, CheckpointAge: time.Minute,
		LTXBytes: 64 << 20, LTXAge: time.Hour, LTXRetention: 24 * time.Hour,
		HeartbeatTimeout: 600 * time.Millisecond,
		CRRRetireAfter:   7 * 24 * time.Hour,
		ScrubEvery:       24 * time.Hour, DeleteGrace: 24 * time.Hour, ShutdownGrace: 20 * time.Second,
	}
}

// setDefaults fills in what is zero.
func (c *Config) setDefaults() {
	d := DefaultConfig()
	number := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	period := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	number(&c.MemoryVersions, d.MemoryVersions)
	number(&c.MemoryPages, d.MemoryPages)
	number(&c.TempMax, d.TempMax)
	number(&c.MinFreeSpace, d.MinFreeSpace)
	number(&c.CheckpointBytes, d.CheckpointBytes)
	number(&c.LTXBytes, d.LTXBytes)
	period(&c.HeartbeatTimeout, d.HeartbeatTimeout)
	period(&c.IdleClose, d.IdleClose)
	period(&c.CheckpointAge, d.CheckpointAge)
	period(&c.LTXAge, d.LTXAge)
	period(&c.LTXRetention, d.LTXRetention)
	period(&c.DeleteGrace, d.DeleteGrace)
	period(&c.ScrubEvery, d.ScrubEvery)
	period(&c.CRRRetireAfter, d.CRRRetireAfter)
	period(&c.ShutdownGrace, d.ShutdownGrace)
	if c.OpenTenants == 0 {
		c.OpenTenants = d.OpenTenants
	}
	if c.PoP == "" {
		c.PoP = d.PoP
	}
	if c.HTTP.Body == 0 {
		c.HTTP = d.HTTP
	}
	if c.FS == nil {
		c.FS = disk.OS()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.feedTree == nil {
		c.feedTree = readpath.Tree
	}
}

// Validate names the field that is wrong.
func (c *Config) Validate() error {
	if c.DataDir == "" {
		return errors.New("field DataDir: it must name a directory")
	}
	for _, l := range []struct{ field, value string }{{"NodeID", c.NodeID}, {"PoP", c.PoP}, {"Region", c.Region}} {
		if l.value == "" {
			continue
		}
		if err := tenant.CheckLabel(l.value); err != nil {
			return fmt.Errorf("field %s: %w", l.field, err)
		}
	}
	if err := c.HTTP.Validate(); err != nil {
		return fmt.Errorf("field HTTP.%w", err)
	}
	if err := c.Limits.Validate(); err != nil {
		return fmt.Errorf("field Limits: %w", err)
	}
	for _, n := range []struct {
		field string
		value int64
		min   int64
	}{
		{"MemoryVersions", c.MemoryVersions, 16 << 20}, {"MemoryPages", c.MemoryPages, 16 << 20},
		{"OpenTenants", int64(c.OpenTenants), 1}, {"CheckpointBytes", c.CheckpointBytes, 1 << 20},
		{"IdleClose", int64(c.IdleClose), 1}, {"CheckpointAge", int64(c.CheckpointAge), 1}, {"DeleteGrace", int64(c.DeleteGrace), 0}, {"ScrubEvery", int64(c.ScrubEvery), 1},
	} {
		if n.value < n.min {
			return fmt.Errorf("field %s: %d is too small, want at least %d", n.field, n.value, n.min)
		}
	}
	if err := c.validateListen(); err != nil {
		return err
	}
	return c.validateCluster()
}

// clustered says whether there may be other nodes.
func (c *Config) clustered() bool { return c.ClusterListen != "" || c.ClusterListener != nil }

func (c *Config) validateCluster() error {
	tls := c.ClusterCA != ""
	if tls != (c.ClusterCert != "") || tls != (c.ClusterKey != "") {
		return errors.New("fields ClusterCA, ClusterCert, ClusterKey: all must be given, or none")
	}
	if !c.clustered() {
		if tls || c.ClusterAdvertise != "" {
			return errors.New("field ClusterListen: it is missing; without it this node has no connections to others")
		}
		return nil
	}
	if c.HeartbeatTimeout < 20*time.Millisecond || c.HeartbeatTimeout > time.Minute {
		return fmt.Errorf("field HeartbeatTimeout: %s, want 20ms to 1m", c.HeartbeatTimeout)
	}
	if c.ClusterAdvertise != "" {
		if host, _, err := net.SplitHostPort(c.ClusterAdvertise); err != nil || host == "" {
			return fmt.Errorf("field ClusterAdvertise: %q: want HOST:PORT", c.ClusterAdvertise)
		}
	}
	if c.ClusterListen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.ClusterListen)
	if err != nil {
		return fmt.Errorf("field ClusterListen: %q: want HOST:PORT", c.ClusterListen)
	}
	ip := net.ParseIP(host)
	if (ip == nil || ip.IsUnspecified()) && host != "localhost" && c.ClusterAdvertise == "" {
		return fmt.Errorf("field ClusterAdvertise: it is missing, and others can't dial %s", c.ClusterListen)
	}
	if loopback := host == "localhost" || ip != nil && ip.IsLoopback(); !loopback && !tls && !c.InsecurePlainCluster {
		return fmt.Errorf("field ClusterListen: %s is reachable from elsewhere: set ClusterCA, ClusterCert and ClusterKey, or InsecurePlainCluster", c.ClusterListen)
	}
	return nil
}

func (c *Config) validateListen() error {
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("fields TLSCert, TLSKey: both must be given, or none")
	}
	if c.Listen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("field Listen: %q: want HOST:PORT", c.Listen)
	}
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	switch {
	case c.InsecureNoAuth && !loopback:
		return fmt.Errorf("field InsecureNoAuth: it is for loopback only, and %s is not", c.Listen)
	case !loopback && c.TLSCert == "" && !c.InsecurePlainHTTP:
		return fmt.Errorf("field Listen: %s is reachable from elsewhere: set TLSCert and TLSKey, or InsecurePlainHTTP", c.Listen)
	}
	return nil
}
