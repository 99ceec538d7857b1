package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func sampleJoin() JoinRequest {
	return JoinRequest{
		Version: 1, Node: "n2", Incarnation: "00112233445566778899aabbccddeeff", PoP: "fra", Region: "eu", Labels: map[string]string{"disk": "nvme"},
		ClusterAddr: "10.0.0.2:7001", PublicURL: "https://n2.example",
	}
}

func sampleAnswer() JoinAnswer {
	return JoinAnswer{Version: 1, Cluster: sample().Cluster, RootKey: "secret", Peers: map[string]string{"n1": "10.0.0.1:7001", "n3": "[::1]:7001"}}
}

func TestJoinGolden(t *testing.T) {
	refused := JoinAnswer{Version: 1, Error: &JoinError{Code: JoinConflict, Message: "n2 was removed"}}
	for name, encode := range map[string]func() ([]byte, error){
		"join_request_v1": sampleJoin().encode, "join_answer_v1": sampleAnswer().encode, "join_refused_v1": refused.encode,
	} {
		got, err := encode()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name+".bin")
		want, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) && *addGolden {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
			want = got
		} else if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		r := bytes.NewReader(append(bytes.Clone(want), "more"...))
		if b, err := readJoinFrame(iotest.OneByteReader(r)); err != nil || !bytes.Equal(b, want[4:]) || r.Len() != 4 {
			t.Errorf("%s: read %q, %v, %d bytes left", name, b, err, r.Len())
		}
	}
}

func TestJoinAnswerRefused(t *testing.T) {
	for name, change := range map[string]func(*JoinAnswer){
		"version 2":     func(a *JoinAnswer) { a.Version = 2 },
		"all zeros":     func(a *JoinAnswer) { a.Cluster = ID{} },
		"peers: 0":      func(a *JoinAnswer) { a.Peers = nil },
		"node id":       func(a *JoinAnswer) { a.Peers["N1"] = "a:1" },
		"HOST:PORT":     func(a *JoinAnswer) { a.Peers["n1"] = "a" },
		"not printable": func(a *JoinAnswer) { a.RootKey = "a\n" },
	} {
		a := sampleAnswer()
		change(&a)
		b, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeJoinAnswer(b); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A refusal of any code, with any text, is one.
	a, err := decodeJoinAnswer([]byte(`{"version":1,"cluster":"00000000000000000000000000000000","root_key":"","error":{"code":"moon","message":"\u0000` + strings.Repeat("x", 2000) + `"}}`))
	if err != nil || a.Error == nil || a.Error.Code != "moon" || len(a.Error.Message) > joinTextMax || a.Error.Message[0] != '?' {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestID(t *testing.T) {
	id := sample().Cluster
	if got, err := ParseID(id.String()); err != nil || got != id {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", "00", id.String() + "00", strings.Replace(id.String(), "a", "g", 1)} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("%q is an id", s)
		}
	}
}

func FuzzJoin(f *testing.F) {
	for _, encode := range []func() ([]byte, error){sampleJoin().encode, sampleAnswer().encode} {
		b, err := encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		b, err := readJoinFrame(bytes.NewReader(frame))
		if err != nil {
			b = frame
		} else if len(b)+4 > len(frame) {
			t.Fatalf("%d bytes of a frame of %d", len(b), len(frame))
		}
		if r, err := decodeJoinRequest(b); err == nil {
			out, err := r.encode()
			if err != nil {
				t.Fatalf("%+v can't be written: %v", r, err)
			}
			if again, err := decodeJoinRequest(out[4:]); err != nil || again.Node != r.Node || len(again.Labels) != len(r.Labels) {
				t.Fatalf("%+v becomes %+v, %v", r, again, err)
			}
		}
		if a, err := decodeJoinAnswer(b); err == nil {
			out, err := a.encode()
			if err != nil {
				t.Fatalf("%+v can't be written: %v", a, err)
			}
			if again, err := decodeJoinAnswer(out[4:]); err != nil || again.Cluster != a.Cluster || len(again.Peers) != len(a.Peers) {
				t.Fatalf("%+v becomes %+v, %v", a, again, err)
			}
		}
	})
}
