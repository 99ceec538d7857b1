package snapshots

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// The format is FORMAT.md's.
const (
	magic         = "nsqlsnap"
	version       = 1
	headerSize    = 52
	serverIDMax   = 255
	serversMax    = 1024
	maxHeaderSize = headerSize + serversMax*(3+2*serverIDMax)
)

// ErrCorrupt marks errors that say that a stored snapshot is not what was stored.
var ErrCorrupt = errors.New("corrupt snapshot")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendHeader appends what precedes the contents of a snapshot. The size of
// the contents is filled in when it is known.
func appendHeader(b []byte, m *raft.SnapshotMeta) ([]byte, error) {
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint32(b, uint32(m.Version))
	for _, v := range [...]uint64{m.Index, m.Term, m.ConfigurationIndex, uint64(m.Size)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	if len(m.Configuration.Servers) > serversMax {
		return nil, fmt.Errorf("configuration of %d servers, at most %d can be stored", len(m.Configuration.Servers), serversMax)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Configuration.Servers)))
	for _, s := range m.Configuration.Servers {
		if len(s.ID) > serverIDMax || len(s.Address) > serverIDMax {
			return nil, fmt.Errorf("server %.40q: id or address longer than %d bytes", s.ID, serverIDMax)
		}
		b = append(b, byte(s.Suffrage), byte(len(s.ID)))
		b = append(b, s.ID...)
		b = append(b, byte(len(s.Address)))
		b = append(b, s.Address...)
	}
	return b, nil
}

// decode reads a whole snapshot file and verifies it.
func decode(b []byte) (meta raft.SnapshotMeta, contents []byte, err error) {
	bad := func(format string, args ...any) (raft.SnapshotMeta, []byte, error) {
		return raft.SnapshotMeta{}, nil, fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	if len(b) < headerSize+4 || string(b[:8]) != magic {
		return bad("no header")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return bad("version %d, want %d", v, version)
	}
	end := len(b) - 4
	if crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return bad("checksum")
	}
	meta.Version = raft.SnapshotVersion(binary.LittleEndian.Uint32(b[12:]))
	meta.Index, meta.Term = binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	meta.ConfigurationIndex = binary.LittleEndian.Uint64(b[32:])
	size := binary.LittleEndian.Uint64(b[40:])
	servers := binary.LittleEndian.Uint32(b[48:])
	if servers > serversMax {
		return bad("%d servers", servers)
	}
	rest := b[headerSize:end]
	text := func() (string, bool) {
		if len(rest) < 1 || len(rest) < 1+int(rest[0]) {
			return "", false
		}
		n := 1 + int(rest[0])
		s := string(rest[1:n])
		rest = rest[n:]
		return s, true
	}
	for range servers {
		if len(rest) < 1 || raft.ServerSuffrage(rest[0]) > raft.Staging {
			return bad("suffrage of a server")
		}
		s := raft.Server{Suffrage: raft.ServerSuffrage(rest[0])}
		rest = rest[1:]
		id, ok := text()
		address, ok2 := text()
		if !ok || !ok2 {
			return bad("list of servers")
		}
		s.ID, s.Address = raft.ServerID(id), raft.ServerAddress(address)
		meta.Configuration.Servers = append(meta.Configuration.Servers, s)
	}
	if uint64(len(rest)) != size {
		return bad("%d bytes of contents, want %d", len(rest), size)
	}
	meta.Size = int64(size)
	return meta, rest, nil
}
