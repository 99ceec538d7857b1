package crrfiles

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
)

var golden = sent{file: crr.FileID{1, 2, 15: 3}, upto: 0x0102030405060708, next: crr.FileID{0xaa, 15: 0xbb}}

const goldenSeq = 258

// The bytes of a slot never change.
func TestSentGolden(t *testing.T) {
	path := filepath.Join("testdata", "sent.v1.hex")
	text, err := os.ReadFile(path)
	must(t, err)
	want, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	must(t, err)
	if got := appendSent(nil, goldenSeq, golden); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	if seq, r, err := parseSent(want); err != nil || seq != goldenSeq || r != golden {
		t.Errorf("%d %+v %v", seq, r, err)
	}
	want[4] = 2
	var version *SentVersionError
	if _, _, err := parseSent(want); !errors.As(err, &version) || version.Got != 2 {
		t.Errorf("version 2: %v", err)
	}
}

func FuzzParseSent(f *testing.F) {
	f.Add(appendSent(nil, goldenSeq, golden))
	f.Add([]byte("nqst"))
	f.Fuzz(func(t *testing.T, b []byte) {
		seq, r, err := parseSent(b)
		if err == nil && !bytes.Equal(appendSent(nil, seq, r), b) {
			t.Errorf("%x is read as %d %+v", b, seq, r)
		}
	})
}

// A write that is torn leaves what was noted before.
func TestSentSurvivesTornWrites(t *testing.T) {
	for n := 1; ; n++ {
		fsys := disktest.NewMemFS()
		must(t, fsys.MkdirAll("t", "/d", 0o700))
		faults := disktest.NewFaults(fsys)
		rec := &sentRecord{fs: faults, path: "/d/x.sent"}
		must(t, rec.begin(crr.FileID{1}))
		must(t, rec.note(crr.FileID{1}, 1))
		faults.TearNth(faults.Count() + n)
		err := error(nil)
		noted := crr.HLC(1)
		for h := crr.HLC(2); err == nil && h < 5; h++ {
			if err = rec.note(crr.FileID{1}, h); err == nil {
				noted = h
			}
		}
		after := &sentRecord{fs: fsys.Kill(), path: "/d/x.sent"}
		is, there, lerr := after.load()
		must(t, lerr)
		if !there || is.upto < noted {
			t.Fatalf("operation %d: %d was noted, the record says %+v", n, noted, is)
		}
		if err == nil {
			if n < 3 {
				t.Error("nothing was torn")
			}
			return
		}
		// Who goes on after it writes the same slot again.
		must(t, rec.note(crr.FileID{1}, 9))
		again := &sentRecord{fs: fsys, path: "/d/x.sent"}
		if is, _, err := again.load(); err != nil || is.upto != 9 {
			t.Fatalf("%+v %v", is, err)
		}
	}
}

// Whatever write of the record the power fails in, it says what was noted before or what was to be noted.
func TestSentSurvivesPowerLoss(t *testing.T) {
	for seed := range uint64(20) {
		for n := 1; ; n++ {
			fsys := disktest.NewMemFS()
			must(t, fsys.MkdirAll("t", "/d", 0o700))
			must(t, fsys.SyncDir("t", "/"))
			faults := disktest.NewFaults(fsys)
			faults.CrashNth(n)
			rec := &sentRecord{fs: faults, path: "/d/x.sent"}
			file := crr.FileID{1}
			noted := crr.HLC(0)
			err := rec.begin(file)
			begun := err == nil
			for h := crr.HLC(1); err == nil && h < 6; h++ {
				if err = rec.note(file, h); err == nil {
					noted = h
				}
			}
			after := &sentRecord{fs: fsys.Crash(chance(seed)), path: "/d/x.sent"}
			is, there, lerr := after.load()
			must(t, lerr)
			if begun && (!there || is.file != file || is.upto < noted || is.upto > noted+1) {
				t.Fatalf("seed %d, operation %d: %d was noted, the record says %+v", seed, n, noted, is)
			}
			if err == nil {
				break
			}
		}
	}
}

// Several may note at a time; what is less than what is noted writes nothing.
func TestSentWritesOnlyMore(t *testing.T) {
	faults := disktest.NewFaults(disk.OS())
	rec := &sentRecord{fs: faults, path: filepath.Join(t.TempDir(), "x.sent")}
	must(t, rec.begin(crr.FileID{1}))
	must(t, rec.note(crr.FileID{1}, 7))
	ops := faults.Count()
	must(t, rec.note(crr.FileID{1}, 7))
	must(t, rec.note(crr.FileID{1}, 3))
	must(t, rec.begin(crr.FileID{1}))
	if faults.Count() != ops {
		t.Error("written for nothing")
	}
	a, err := rec.next()
	must(t, err)
	if b, err := rec.next(); err != nil || a != b || a == (crr.FileID{}) {
		t.Errorf("%s, then %s: %v", a, b, err)
	}
	must(t, rec.note(crr.FileID{1}, 8))
	again := &sentRecord{fs: disk.OS(), path: rec.path}
	if b, err := again.next(); err != nil || a != b {
		t.Errorf("%s, and after a restart %s: %v", a, b, err)
	}
	must(t, rec.begin(a))
	if b, err := rec.next(); err != nil || a == b {
		t.Errorf("%s is used twice: %v", b, err)
	}
}
