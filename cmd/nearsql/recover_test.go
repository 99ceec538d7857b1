package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/leader/leadertest"
	"github.com/nearsql/nearsql/wire"
)

const testCluster = "00112233445566778899aabbccddeeff"

// groupOnDisk makes what node n3 has of a group of those voters, under groups of the working directory's data directory "data".
func groupOnDisk(t *testing.T, group wire.GroupID, voters ...leader.NodeID) {
	t.Helper()
	dir := filepath.Join("data", "groups", fmt.Sprint(group))
	for path, text := range map[string]string{"lock": "", "node.json": `{"format":1,"cluster":"` + testCluster + `","node":"n3"}`} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join("data", path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g, err := leader.New(leader.Config{Group: group, Node: "n3", FS: disk.OS(), Dir: filepath.Join(dir, "raft"), Machine: &leadertest.List{},
		Network: leadertest.NewNetwork().Node("n3"), InitialVoters: voters})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := g.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestRecoverCommand(t *testing.T) {
	t.Chdir(t.TempDir())
	groupOnDisk(t, 1, "n1", "n2", "n3")
	groupOnDisk(t, 2, "n3")
	groupOnDisk(t, 3, "n1", "n2", "n3")
	accept := "--" + acceptLoss
	command(t, "", "recover", "--data-dir", "data", "--group", "3").want(t, 2, "", accept)
	command(t, "", "recover", "--data-dir", "data", accept).want(t, 2, "", "--group")
	command(t, "", "recover", "--data-dir", "data", "--group", "x", accept).want(t, 2, "", "number of a group")
	command(t, "", "recover", "--data-dir", "data", "--group", "3", "--cluster", testCluster, accept).want(t, 2, "", "--discard")
	command(t, "", "recover", "--data-dir", "nowhere", "--group", "3", accept).want(t, 1, "", "no data directory")
	command(t, "", "recover", "--data-dir", "data", "--group", "9", accept).want(t, 1, "", "no copy")
	command(t, "", "recover", "--data-dir", "data", "--group", "2", accept, "--yes").want(t, 1, "only voter", "nothing to recover")
	if _, err := os.Stat("data/groups/9"); err == nil {
		t.Error("a group was made")
	}
	for _, typed := range []string{"", "yes\n", "group 1\n", "3\n"} {
		command(t, typed, "recover", "--data-dir", "data", "--group", "3", accept).want(t, 1, "EVERY WRITE BEHIND THAT IS LOST", "nothing was changed")
	}
	if kept, err := filepath.Glob("data/groups/*before*"); len(kept) > 0 || err != nil {
		t.Errorf("kept %v, %v", kept, err)
	}
	command(t, "group 3\n", "recover", "--data-dir", "data", "--group", "3", accept).want(t, 0, "Group 3 is recovered", "")
	command(t, "all groups\n", "recover", "--data-dir", "data", "--group", "all", accept).want(t, 0, "cluster's id is now", "")
	if text, err := os.ReadFile("data/node.json"); err != nil || strings.Contains(string(text), testCluster) {
		t.Errorf("identity %s, %v", text, err)
	}
	if kept, err := filepath.Glob("data/groups/*before*/positions.json"); len(kept) != 2 || err != nil {
		t.Errorf("kept %v, %v", kept, err)
	}
	command(t, "", "recover", "--data-dir", "data", "--group", "all", accept).want(t, 1, "Group 3 is left as it is", "nothing to recover")
	command(t, "", "recover", "--data-dir", "data", "--group", "3", "--discard", "--yes", accept).want(t, 0, "sets aside", "")
}
