package readpathtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
	"github.com/nearsql/nearsql/wire/txn"
)

// Codes of the model's control entries.
const (
	CodeCreated uint16 = 1 + iota
	CodeRenamed
	CodeDeleted
	CodeMoved
)

const pageSize = 512

// State is a tenant at one point of its history: a database of one page.
type State struct {
	Tenant   wire.TenantID
	Group    wire.GroupID
	Epoch    wire.Epoch
	TXID     wire.TXID
	Checksum wire.Checksum
	Index    uint64
	Version  int // counts all entries that took effect, in all groups
	Name     string
	Deleted  bool
	MovedTo  wire.GroupID // 0 unless the tenant has left Group
	Page     []byte
	Time     time.Duration // the primary's time of day
}

// Head is the state's position.
func (s *State) Head() replica.Head {
	if s == nil || s.Epoch == 0 {
		return replica.Head{}
	}
	return replica.Head{Head: stream.Head{Epoch: s.Epoch, TXID: s.TXID, Checksum: s.Checksum, Index: s.Index}, Group: s.Group, Policy: 1}
}

// Next is the state after an entry; it refuses an entry that does not follow.
func (s State) Next(index uint64, entry []byte) (State, error) {
	h, body, err := txn.Split(entry)
	if err != nil {
		return s, err
	}
	if index <= s.Index {
		return s, nil
	}
	created := h.Kind == txn.Control && h.Code == CodeCreated
	if created {
		s = State{Tenant: h.Tenant, Group: h.Group, Epoch: h.Epoch, Page: make([]byte, pageSize)}
	}
	if h.Epoch != s.Epoch || h.PrevTXID != s.TXID || h.PrevSum != s.Checksum || h.Tenant != s.Tenant {
		return s, fmt.Errorf("entry %d follows txid %d, here is %d: %w", index, h.PrevTXID, s.TXID, replica.ErrMismatch)
	}
	if s.MovedTo != 0 || h.Group != s.Group {
		return s, fmt.Errorf("entry %d is of group %d: %w", index, h.Group, replica.ErrMismatch)
	}
	s.Index, s.Time = index, time.Duration(h.TimeUnixMilli)*time.Millisecond
	s.Version++
	if h.Kind == txn.Control {
		switch h.Code {
		case CodeCreated, CodeRenamed:
			s.Name = string(body)
		case CodeDeleted:
			s.Deleted = true
		case CodeMoved:
			s.MovedTo = wire.GroupID(body[0])
		}
		return s, nil
	}
	page := bytes.Clone(s.Page)
	for p, err := range txn.Pages(&h, body) {
		if err != nil {
			return s, err
		}
		if err := p.Build(page, s.Page); err != nil {
			return s, err
		}
	}
	if sum := wire.ChecksumFlag | txn.PageSum(1, page); sum != h.NextSum {
		return s, fmt.Errorf("entry %d: the page's sum is %s, want %s: %w", index, sum, h.NextSum, replica.ErrMismatch)
	}
	s.Page, s.TXID, s.Checksum = page, h.NextTXID, h.NextSum
	return s, nil
}

// Write makes the entry of a transaction that counts up in the page.
func (s *State) Write(now time.Duration) ([]byte, error) {
	page := bytes.Clone(s.Page)
	copy(page, fmt.Sprintf("version %d of tenant %s", s.Version+1, s.Tenant))
	var e txn.Encoder
	sum := txn.PageSum(1, page)
	h := txn.Header{Tenant: s.Tenant, Epoch: s.Epoch, Group: s.Group, Policy: 1, PageSize: pageSize, Commit: 1, TimeUnixMilli: uint64(now / time.Millisecond),
		PrevTXID: s.TXID, PrevSum: s.Checksum, NextTXID: s.TXID + 1, NextSum: wire.ChecksumFlag | sum}
	if err := e.Begin(h); err != nil {
		return nil, err
	}
	if err := e.Page(1, s.Page, page, sum); err != nil {
		return nil, err
	}
	b, err := e.Finish()
	return bytes.Clone(b), err
}

// Control makes a control entry.
func (s *State) Control(code uint16, payload []byte, now time.Duration) ([]byte, error) {
	return txn.AppendEntry(nil, &txn.Header{Kind: txn.Control, Code: code, Tenant: s.Tenant, Epoch: s.Epoch, Group: s.Group, Policy: 1,
		PrevTXID: s.TXID, PrevSum: s.Checksum, NextTXID: s.TXID, NextSum: s.Checksum, TimeUnixMilli: uint64(now / time.Millisecond)}, payload)
}

// Encode is a copy as it travels: padded, so that it takes many pieces.
func (s *State) Encode(padding int) ([]byte, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	b = append(b, bytes.Repeat([]byte(" "), padding)...)
	sum := crc32.ChecksumIEEE(b)
	return append(b, byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)), nil
}

// Decode reads a copy to its end and checks it.
func Decode(r io.Reader) (State, error) {
	var s State
	b, err := io.ReadAll(r)
	if err != nil {
		return s, err
	}
	if len(b) < 4 {
		return s, io.ErrUnexpectedEOF
	}
	end := len(b) - 4
	sum := crc32.ChecksumIEEE(b[:end])
	if !bytes.Equal(b[end:], []byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)}) {
		return s, fmt.Errorf("the copy's checksum is wrong")
	}
	return s, json.Unmarshal(b[:end], &s)
}
