//go:build crrmutants

package crr

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mutant is one deliberate fault: in a file, old becomes new. by names the tests of which at least one must fail.
type mutant struct{ name, file, old, new, by string }

var mutants = []mutant{
	{"delete wins by equal stamps", "row.go", "return !r.Ins.Zero() && !r.Ins.Before(r.Del)", "return !r.Ins.Zero() && r.Del.Before(r.Ins)", "TestConverge|TestOneTransaction"},
	{"older insert wins", "merge.go", "case r.Ins.Before(d.Ins):\n\t\tif !d.New", "case d.Ins.Before(r.Ins) && d.New:\n\t\tif !d.New", "TestJoinLaws|TestConverge"},
	{"cells without order", "merge.go", "if r.CellAt(c.Col).Before(c.At) {", "if r.CellAt(c.Col) != c.At {", "TestJoinLaws|TestConverge"},
	{"sites don't break ties", "hlc.go", "return a.HLC < b.HLC || a.HLC == b.HLC && a.Site < b.Site", "return a.HLC < b.HLC", "TestConverge"},
	{"new birth keeps cells", "merge.go", "r.Ins, r.Cells = d.Ins, r.Cells[:0]", "r.Ins = d.Ins", "TestJoinLaws|TestConverge"},
	{"counters are not pruned", "merge.go", "\tr.prune()\n\treturn won, nil", "\treturn won, nil", "TestJoinLaws|TestConverge"},
	{"counter entries by arrival", "merge.go", "} else if c.Entries[i].HLC < e.HLC {", "} else {", "TestJoinLaws|TestConverge"},
	{"assignments by arrival", "merge.go", "c.Base.Birth == b.Birth && c.Base.At.Before(b.At)", "c.Base.Birth == b.Birth", "TestJoinLaws|TestConverge"},
	{"assignment forgets what it saw", "row.go", "Seen: slices.Clone(c.Entries)", "Seen: nil", "TestIntent|TestConverge"},
	{"new incarnation drops counters", "merge.go", "\t\tif r.Ins.Before(del) {\n\t\t\tr.Counters = r.Counters[:0]\n\t\t}", "\t\tr.Counters = r.Counters[:0]", "TestJoinLaws|TestConverge"},
	{"late answers are believed", "apply.go", "\tc.unknown(s.vv, row)\n", "", "TestLateAnswer"},
	{"collected at once", "collect.go", "if row.Del.Zero() || !stable.Has(row.Del) {", "if row.Del.Zero() || stable == nil {", "TestConverge"},
	{"a vector is believed before what its site wrote is here", "member.go", "if c := p.claims[i]; c != nil && have[site] >= c[site] {", "if c := p.claims[i]; c != nil {", "TestVectorBeforeItsWrites"},
	{"collecting is not noted", "collect.go", "collected[row.Del.Site] = max(collected[row.Del.Site], row.Del.HLC)", "_ = collected", "TestReturnFromBeforeCollection"},
	{"what a peer collected is not noted", "apply.go", "\tcollected.Join(h.Collected)\n", "", "TestReturnFromBeforeCollection"},
	{"pushes without their causes", "apply.go", "(s.vv[h.Site] < h.Prev || !s.vv.Covers(h.Deps))", "s.vv[h.Site] < h.Prev", "TestPushes"},
	{"pushes without their predecessor", "apply.go", "(s.vv[h.Site] < h.Prev || !s.vv.Covers(h.Deps))", "!s.vv.Covers(h.Deps)", "TestPushes"},
	{"vector not joined", "apply.go", "\ts.vv.Join(h.After)\n", "", "TestConverge"},
	{"vector not written", "apply.go", "if err := s.storeVector(site, at); err != nil {", "if err := s.storeVector(site, s.vv[site]+1); err != nil {", "TestCrashAtAnyWrite"},
	{"clock does not observe", "apply.go", "\t\ts.clock.observe(at)\n", "\t\t_ = at\n", "TestConverge"},
	{"future is taken", "hlc.go", "ahead > c.skew {", "ahead > 1000000*c.skew {", "TestSkew"},
	{"merge is tracked as local", "site.go", "\twas := s.track.local\n\ts.track.local = false\n", "\twas := s.track.local\n", "TestIntent|TestConverge"},
	{"collation compares", "change.go", "!bytes.Equal(a.Bytes(i), a.Bytes(j))", "!bytes.EqualFold(a.Bytes(i), a.Bytes(j))", "TestEveryStatementIsTracked|TestTraps|TestWritesAreWhatChanges"},
	{"types are not compared", "change.go", "if k != a.Kind(j) {", "if false {", "TestEveryStatementIsTracked|TestTraps|TestWritesAreWhatChanges"},
	{"floats are not compared", "change.go", "if c.floats>>p&1 == 1 && a.Int(p) != 0 {", "if false {", "TestWritesAreWhatChanges"},
	{"writes that are not local are tracked", "change.go", "\tif !t.local {\n\t\tr.Integer(0)\n\t\treturn\n\t}\n", "", "TestIntent|TestConverge"},
	{"states are not filled up", "rowcodec.go", "const minState = 24", "const minState = 10", "TestRoomForCells"},
	{"a stamp may be said twice", "rowcodec.go", "if c.At = d.stamp(); c.At == at {", "if c.At = d.stamp(); false {", "TestRoomForCells|FuzzRow"},
	{"files of other formats are opened", "layout.go", "f != fileFormat {", "f > fileFormat {", "TestOtherVersions"},
	{"what stays the same is a write", "change.go", "return a.Int(i) != a.Int(j), true", "return true, true", "TestWritesAreWhatChanges"},
	{"an assignment of the same value is no write", "change.go", "case c.mask|c.assigned != 0:", "case c.mask != 0:", "TestWritesAreWhatChanges|TestIntent|TestConverge"},
	{"triggers of other versions stay", "trigger.go", "if stale == nil {", "if true {", "TestTriggersOfOtherVersions"},
	{"key changes are taken for updates", "trigger.go", "same := t.keyNames(\"OLD.% IS NEW.%\", \" AND \")", "same := \"1\"", "TestIntent|TestEveryStatementIsTracked"},
	{"triggers use OR REPLACE", "trigger.go", "\"INSERT INTO %s(k,lseq,st) VALUES(%s,crr_lseq(),%s) ON CONFLICT(k) DO UPDATE SET lseq=excluded.lseq,st=%s;\", t.meta(), key, st, again)", "\"INSERT OR REPLACE INTO %[1]s(k,lseq,st) SELECT %[2]s,crr_lseq(),coalesce((SELECT %[4]s FROM %[1]s WHERE k=%[2]s),%[3]s);\", t.meta(), key, st, strings.ReplaceAll(again, \"excluded.st\", st))", "TestEveryStatementIsTracked"},
	{"key changes are not tracked", "trigger.go", "t.onDelete()+\" \"+t.onInsert()", "t.onInsert()", "TestIntent|TestEveryStatementIsTracked"},
	{"every SET adds", "classify.go", "if !c.mentions(c.ts[from:end], col) {", "if false {", "TestClassify|TestIntent"},
	{"excluded.n is a mention", "classify.go", "if strings.EqualFold(of, c.target) || c.alias", "if of != \"\" || c.alias", "TestClassify"},
	{"replace adds", "tracker.go", "\t\tif replaced {\n", "\t\tif replaced && false {\n", "TestIntent|TestConverge"},
	{"ring forgets a part of a transaction", "ring.go", "for cut < len(m.list) && m.list[cut].lseq == m.from {\n\t\tcut++\n\t}", "m.from--", "TestRingIsOnlyAHint|TestConverge"},
	{"ring claims to reach back", "ring.go", "if r.mu.ended || after < r.mu.from {", "if r.mu.ended {", "TestRingIsOnlyAHint|TestConverge"},
	{"a closed writer's ring answers", "ring.go", "r.mu.ended, r.mu.list, r.mu.bytes = true, nil, 0", "_ = 0", "TestReaderOfAnEarlierWriter"},
	{"cursors of other runs count", "cursor.go", "if run == 0 || cursor>>cursorBits != int64(run) {", "if false {", "TestRestoredFileIsAskedFromItsBeginning|TestCursors"},
	{"pushes go on from other files", "reader.go", "if from != (Mark{}) && !from.Of(r.me.Identity) {", "if false {", "TestPushFromAnotherFile"},
	{"a mark is of two states", "mark.go", "upto: h.Vector[h.Site], seq: h.Seq}", "upto: h.Vector[h.Site], seq: h.Seq + 1}", "TestPushes|TestConverge"},
	{"rewound file keeps its number", "identity.go", "if s.me.Site == 0 || v[s.me.Site] <= s.me.hlc {", "if true {", "TestRewoundFile"},
	{"snapshot keeps its identity", "snapshot.go", "SET site=NULL, hlc=0, file=?", "SET one=1, file=file WHERE ? IS NOT NULL", "TestBackupUnderANewNumber"},
	{"snapshot forgets its own history", "snapshot.go", "WHERE site IS NOT NULL AND hlc>0", "WHERE site IS NULL", "TestBackupUnderANewNumber"},
	{"own reading is not written", "txn.go", "wire.Integer(int64(tx.stamp.HLC)), wire.Integer(tx.lseq))", "wire.Integer(int64(s.me.hlc)), wire.Integer(tx.lseq))", "TestCrashAtAnyWrite|TestConverge"},
	{"columns of later versions keep their value", "apply.go", "case birth != r.Ins:", "case !was:", "TestOlderSitesInsert|TestMixedSchemas"},
	{"batches of later schemas are taken", "apply.go", "if h.Schema > s.state.Version {", "if false {", "TestMixedSchemas"},
	{"retired sites write on", "member.go", "m.State == Retired && h > m.Final && s.vv[site] < h", "false", "TestMembers"},
	{"salvage adds everything again", "salvage.go", "d -= sumOf(known.Entries, e)", "_ = known", "TestSalvage"},
	{"a CTE passes for a trigger", "access.go", "internalName(t.Text) {", "false {", "TestTenantReachesNothingInternal"},
	{"batches in parts", "inbox.go", "if f.id != in.id || f.part != in.next || f.part >= maxParts {", "if f.part >= maxParts {", "TestLargeBatches"},
}

// TestMutants plants each fault and sees that a test finds it. Run it with
//
//	go test -tags crrmutants -run TestMutants -timeout 60m ./crr
func TestMutants(t *testing.T) {
	only := os.Getenv("CRR_MUTANT")
	dir := t.TempDir()
	for _, m := range mutants {
		if only != "" && !strings.Contains(m.name, only) {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			src, err := os.ReadFile(m.file)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(src), m.old); n != 1 {
				t.Fatalf("%q is in %s %d times", m.old, m.file, n)
			}
			abs, err := filepath.Abs(m.file)
			if err != nil {
				t.Fatal(err)
			}
			bad := filepath.Join(dir, "mutant.go")
			if err := os.WriteFile(bad, []byte(strings.Replace(string(src), m.old, m.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{abs: bad}})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "overlay.json")
			if err := os.WriteFile(file, overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			bin := filepath.Join(dir, "mutant.test")
			if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", file, "-o", bin, ".").CombinedOutput(); err != nil {
				t.Fatalf("does not build: %s", out)
			}
			cmd := exec.CommandContext(t.Context(), bin, "-test.run", "^("+m.by+")$", "-test.timeout", "120s", "-rapid.nofailfile", "-rapid.shrinktime=0s", "-test.failfast")
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("survived %s", m.by)
			}
			if !strings.Contains(string(out), "--- FAIL") && !strings.Contains(string(out), "panic:") {
				t.Fatalf("ended without a failing test: %s", out)
			}
		})
	}
}
