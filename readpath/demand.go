package readpath

import (
	"sync"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// DemandConfig says when an on-demand copy is fetched and dropped. Zero fields mean the defaults.
type DemandConfig struct {
	// Reads within Window make a copy worth having: who pays for memory and traffic turns them. 3 within 1 minute.
	Reads  int
	Window time.Duration
	// Idle is how long a copy is kept without a read. 1 h.
	Idle time.Duration
	// Retry is how long after a failed fetch the next may begin. 10 s.
	Retry time.Duration
	// Tracked is how many tenants are remembered that are not here. 4096.
	Tracked int
}

// Demand decides which tenants of placement `on-demand` this node holds. Times are of any one clock that does not go back.
type Demand struct {
	cfg DemandConfig

	mu struct {
		sync.Mutex
		counted map[wire.TenantID]*demanded // not here; at most cfg.Tracked
		held    map[wire.TenantID]time.Duration
	}
}

type demanded struct {
	since    time.Duration // of the first read counted
	last     time.Duration
	reads    int
	fetching bool
	notUntil time.Duration
}

// NewDemand returns a Demand for a node that holds nothing on demand.
func NewDemand(cfg DemandConfig) *Demand {
	def := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&cfg.Window, time.Minute)
	def(&cfg.Idle, time.Hour)
	def(&cfg.Retry, 10*time.Second)
	if cfg.Reads <= 0 {
		cfg.Reads = 3
	}
	if cfg.Tracked <= 0 {
		cfg.Tracked = 4096
	}
	d := &Demand{cfg: cfg}
	d.mu.counted = make(map[wire.TenantID]*demanded)
	d.mu.held = make(map[wire.TenantID]time.Duration)
	return d
}

// Read notes a read of a tenant; true says that the caller is the one to fetch it now, and to call Fetched.
func (d *Demand) Read(id wire.TenantID, now time.Duration) (fetch bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.mu.held[id]; ok {
		d.mu.held[id] = now
		return false
	}
	c := d.mu.counted[id]
	if c == nil {
		if !d.makeRoomLocked() {
			return false
		}
		c = &demanded{since: now}
		d.mu.counted[id] = c
	}
	if now-c.since > d.cfg.Window {
		c.since, c.reads = now, 0
	}
	c.reads++
	c.last = now
	if c.fetching || c.reads < d.cfg.Reads || now < c.notUntil {
		return false
	}
	c.fetching = true
	return true
}

// makeRoomLocked forgets the tenant that was read least recently, if there are too many. False if all of them are being fetched.
func (d *Demand) makeRoomLocked() bool {
	if len(d.mu.counted) < d.cfg.Tracked {
		return true
	}
	var (
		oldest wire.TenantID
		found  *demanded
	)
	for id, c := range d.mu.counted {
		if !c.fetching && (found == nil || c.last < found.last) {
			oldest, found = id, c
		}
	}
	delete(d.mu.counted, oldest)
	return found != nil
}

// Fetched says what became of a fetch that Read asked for, or, at a start, that the tenant was found here.
func (d *Demand) Fetched(id wire.TenantID, now time.Duration, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		delete(d.mu.counted, id)
		d.mu.held[id] = now
		return
	}
	if c := d.mu.counted[id]; c != nil {
		c.fetching, c.notUntil = false, now+d.cfg.Retry
	}
}

// Evict takes the tenants that nobody has read for long out of those held, and returns them: their copies are to be dropped.
func (d *Demand) Evict(now time.Duration) []wire.TenantID {
	d.mu.Lock()
	defer d.mu.Unlock()
	var idle []wire.TenantID
	for id, last := range d.mu.held {
		if now-last > d.cfg.Idle {
			idle = append(idle, id)
			delete(d.mu.held, id)
		}
	}
	for id, c := range d.mu.counted {
		if !c.fetching && now-c.last > d.cfg.Window && now >= c.notUntil {
			delete(d.mu.counted, id)
		}
	}
	return idle
}

// Forget drops all that is known of a tenant: it was deleted, or is placed otherwise.
func (d *Demand) Forget(id wire.TenantID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.mu.held, id)
	delete(d.mu.counted, id)
}
