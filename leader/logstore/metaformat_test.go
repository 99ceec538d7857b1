package logstore

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
)

var update = flag.Bool("update", false, "write testdata")

// golden compares bytes with a file of hexadecimal digits.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		must(t, os.WriteFile(path, []byte(hex.Dump(got)), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if hex.Dump(got) != strings.ReplaceAll(string(want), "\r", "") {
		t.Fatalf("%s: got\n%s", name, hex.Dump(got))
	}
}

func exampleMeta() metaState {
	return metaState{
		seq: 9, key: 0x1122334455667788,
		log: types.PersistentState{NextSegmentID: 3, Segments: []types.SegmentInfo{
			{ID: 1, BaseIndex: 1, MinIndex: 40, MaxIndex: 99, Codec: 1, IndexStart: 8000, CreateTime: time.Unix(1, 5), SealTime: time.Unix(2, 0), SizeLimit: 8192},
			{ID: 2, BaseIndex: 100, MinIndex: 100, Codec: 1, CreateTime: time.Unix(2, 0), SizeLimit: 8192},
		}},
		stable: map[string][]byte{"CurrentTerm": {7, 0, 0, 0, 0, 0, 0, 0}, "LastVoteCand": []byte("n1"), "empty": {}},
	}
}

func TestMetaGolden(t *testing.T) {
	s := exampleMeta()
	b := s.encode()
	b = metaRecord{kind: recordStable, seq: 10, key: []byte("LastVoteCand")}.appendTo(b)
	golden(t, "meta-v1.hex", b)
	got, err := decodeMeta(b)
	must(t, err)
	s.seq = 10
	delete(s.stable, "LastVoteCand")
	if !reflect.DeepEqual(got, s) {
		t.Fatalf("got\n%+v, want\n%+v", got, s)
	}
}

func TestEntryChecksumGolden(t *testing.T) {
	s := Store{seed: 0xabcd}
	log := &raft.Log{Index: 5, Term: 3, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("ext")}
	stored := *log
	stored.Extensions = s.appendTrailer([]byte("ext"), log, 2)
	golden(t, "trailer-v1.hex", stored.Extensions)
	if first, ok := s.verify(&stored); !ok || first != 3 || string(stored.Extensions) != "ext" {
		t.Fatalf("verify: %d, %v, %q", first, ok, stored.Extensions)
	}
}

func TestMetaTornOrDamaged(t *testing.T) {
	s := exampleMeta()
	whole := s.encode()
	old := len(whole)
	whole = metaRecord{kind: recordStable, seq: 10, key: []byte("k"), value: []byte("v")}.appendTo(whole)
	for n := old; n < len(whole); n++ {
		got, err := decodeMeta(whole[:n])
		if err != nil || got.seq != 9 {
			t.Fatalf("torn at %d of %d: %v", n, len(whole), err)
		}
		if got, err = decodeMeta(append(whole[:n:n], make([]byte, 300)...)); err != nil || got.seq != 9 {
			t.Fatalf("torn at %d of %d, then zeros: %v", n, len(whole), err)
		}
	}
	for i := range old {
		b := bytes.Clone(whole)
		b[i] ^= 0x10
		if _, err := decodeMeta(b); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d of %d: %v", i, len(whole), err)
		}
	}
}

func FuzzDecodeMeta(f *testing.F) {
	s := exampleMeta()
	f.Add(s.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeMeta(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again, err := decodeMeta(s.encode())
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("encoded again: %v\n%+v\n%+v", err, again, s)
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	s := exampleMeta()
	f.Add(metaRecord{kind: recordLog, seq: 1, log: s.log}.appendTo(nil))
	f.Add(metaRecord{kind: recordStable, seq: 1, key: []byte("k"), value: []byte("v")}.appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= recordHeader { // what is behind a good checksum is to be fuzzed
			b = bytes.Clone(b)
			binary.LittleEndian.PutUint32(b, uint32(len(b)))
			binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
		}
		r, n, err := decodeRecord(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if again := r.appendTo(nil); n != len(b) || !bytes.Equal(again, b) {
			t.Fatalf("encoded again\n%x, want\n%x", again, b)
		}
	})
}

func FuzzScan(f *testing.F) {
	for _, seed := range []int{0, 1, 3} {
		f.Add(exampleSegment(f, seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := Store{seed: 1}
		got, err := scan(bytes.NewReader(b), int64(len(b)), 1, s.own)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if got.end > int64(len(b)) || got.last > got.end || got.indexStart > got.end {
			t.Fatalf("%+v of %d bytes", got, len(b))
		}
		for _, off := range got.offsets {
			if int64(off) >= got.end {
				t.Fatalf("entry at %d, end at %d", off, got.end)
			}
			if payload, err := readPayload(bytes.NewReader(b), off); err == nil {
				s.own(payload)
			}
		}
	})
}
