package pagestore

import (
	"sync/atomic"

	"github.com/nearsql/nearsql/disk"
)

// pageFile is a segment that versions refer to. It is closed when its owner
// and all versions have let go of it; until then its bytes can be read even
// when its name is gone.
type pageFile struct {
	name string
	f    disk.File
	refs atomic.Int64
}

// newPageFile returns a file with one reference, the owner's.
func newPageFile(name string, f disk.File) *pageFile {
	p := &pageFile{name: name, f: f}
	p.refs.Store(1)
	return p
}

func (p *pageFile) acquire() { p.refs.Add(1) }

func (p *pageFile) release() {
	if p.refs.Add(-1) == 0 {
		p.f.Close()
	}
}
