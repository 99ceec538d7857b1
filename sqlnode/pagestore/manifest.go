package pagestore

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// manifest is what a snapshot of a group's log consists of: every tenant's
// record and position, and the units that hold what the bases may lack.
// FORMAT.md is the specification.
type manifest struct {
	group   wire.GroupID
	origin  origin // of the directory that has the units; zero in version 1
	index   uint64
	units   []manifestUnit
	tenants []manifestTenant
}

type manifestUnit struct {
	seq      uint64
	made     int64
	segments []uint64
}

type manifestTenant struct {
	rec   tenant.Tenant
	state State
	time  int64
	index uint64
}

const (
	manifestMagic = "NSQLMAN1"
	// Version 1 had no origin. It never left the node that wrote it.
	manifestVersion1 = 1
	manifestVersion  = 2
)

func (m *manifest) encode() ([]byte, error) {
	b := make([]byte, 0, 64+len(m.tenants)*512)
	b = append(b, manifestMagic...)
	version := uint32(manifestVersion)
	if m.origin == (origin{}) {
		version = manifestVersion1
	}
	b = binary.BigEndian.AppendUint32(b, version)
	b = binary.BigEndian.AppendUint32(b, uint32(m.group))
	b = binary.BigEndian.AppendUint64(b, m.index)
	if version >= 2 {
		b = append(b, m.origin[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(m.units)))
	for _, u := range m.units {
		b = binary.AppendUvarint(b, u.seq)
		b = binary.AppendUvarint(b, uint64(u.made))
		b = binary.AppendUvarint(b, uint64(len(u.segments)))
		for _, s := range u.segments {
			b = binary.AppendUvarint(b, s)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(m.tenants)))
	for i := range m.tenants {
		t := &m.tenants[i]
		rec, err := json.Marshal(t.rec)
		if err != nil {
			return nil, fmt.Errorf("encode record of tenant %s: %w", t.rec.ID, err)
		}
		b = binary.AppendUvarint(b, uint64(len(rec)))
		b = append(b, rec...)
		b = binary.AppendUvarint(b, uint64(t.state.TXID))
		b = binary.BigEndian.AppendUint64(b, uint64(t.state.Checksum))
		b = binary.AppendUvarint(b, uint64(t.state.Pages))
		b = binary.AppendUvarint(b, uint64(t.time))
		b = binary.AppendUvarint(b, t.index)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// decodeManifest reads what encode wrote.
func decodeManifest(b []byte) (*manifest, error) {
	if len(b) < 28 || string(b[:8]) != manifestMagic {
		return nil, fmt.Errorf("it does not begin as a manifest")
	}
	version := binary.BigEndian.Uint32(b[8:])
	if version != manifestVersion1 && version != manifestVersion {
		return nil, fmt.Errorf("manifest format %d is not known here (known: 1 to %d)", version, manifestVersion)
	}
	end := len(b) - 4
	if crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return nil, fmt.Errorf("its checksum is wrong: it was cut short or changed")
	}
	d := manifestDecoder{b: b[24:end]}
	m := &manifest{group: wire.GroupID(binary.BigEndian.Uint32(b[12:])), index: binary.BigEndian.Uint64(b[16:])}
	if version >= 2 {
		if o := d.take(len(m.origin)); o != nil {
			m.origin = origin(o)
		}
		if m.origin == (origin{}) {
			d.fail()
		}
	}
	for range d.count(3) {
		u := manifestUnit{seq: d.uvarint(), made: int64(d.uvarint())}
		for range d.count(1) {
			u.segments = append(u.segments, d.uvarint())
		}
		m.units = append(m.units, u)
	}
	for range d.count(12) {
		var t manifestTenant
		rec := d.take(int(min(d.uvarint(), uint64(len(d.b))+1)))
		if d.err == nil {
			if err := json.Unmarshal(rec, &t.rec); err != nil {
				return nil, fmt.Errorf("tenant %d of the manifest: %w", len(m.tenants), err)
			}
		}
		t.state.TXID = wire.TXID(d.uvarint())
		if sum := d.take(8); sum != nil {
			t.state.Checksum = wire.Checksum(binary.BigEndian.Uint64(sum))
		}
		t.state.Pages = uint32(d.uvarint())
		t.time = int64(d.uvarint())
		t.index = d.uvarint()
		m.tenants = append(m.tenants, t)
	}
	if d.err == nil && len(d.b) != 0 {
		return nil, fmt.Errorf("%d bytes are left in the manifest", len(d.b))
	}
	if d.err != nil {
		return nil, d.err
	}
	return m, nil
}

type manifestDecoder struct {
	b   []byte
	err error
}

func (d *manifestDecoder) fail() {
	if d.err == nil {
		d.err = fmt.Errorf("the manifest ends too early")
	}
	d.b = nil
}

func (d *manifestDecoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *manifestDecoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.fail()
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

// count reads a number of items that take at least size bytes each.
func (d *manifestDecoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.fail()
		return 0
	}
	return int(n)
}
