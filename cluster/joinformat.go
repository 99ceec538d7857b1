package cluster

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"unicode"
	"unicode/utf8"
)

// JoinVersion is the version of the request and the answer that this package writes and reads; see FORMAT.md.
const JoinVersion = 1

// Bounds of what is sent to join.
const (
	joinFrameMax  = 1 << 20 // bytes of JSON
	joinTextMax   = 512     // bytes of a text
	joinLabelsMax = 64
	joinPeersMax  = 4096
)

// JoinRequest is who wants to join a cluster.
type JoinRequest struct {
	Version     int               `json:"version"`
	Node        string            `json:"node"`        // its id; with TLS, proven
	Incarnation string            `json:"incarnation"` // of its data directory: the same id with another is another node
	PoP         string            `json:"pop"`
	Region      string            `json:"region"`
	Labels      map[string]string `json:"labels,omitempty"`
	ClusterAddr string            `json:"cluster_addr"` // HOST:PORT where other nodes reach it
	PublicURL   string            `json:"public_url"`   // where clients reach it; may be empty
}

// JoinAnswer is what a node must know that was let in, or why it was not.
type JoinAnswer struct {
	Version int               `json:"version"`
	Cluster ID                `json:"cluster"`
	RootKey string            `json:"root_key"`
	Peers   map[string]string `json:"peers,omitempty"` // cluster addresses by node id
	Error   *JoinError        `json:"error,omitempty"` // if not nil, the rest means nothing
}

// JoinCode says why a node was not let in.
type JoinCode string

// The codes; others may come from newer nodes, and are refusals too.
const (
	JoinBadRequest JoinCode = "bad_request" // the request can't be read, or has a wrong value
	JoinVersions   JoinCode = "version"     // it is of another version
	JoinConflict   JoinCode = "conflict"    // the id is another node's, or was removed
	JoinBusy       JoinCode = "busy"        // come again
	JoinFailed     JoinCode = "failed"      // it did not work out; come again
)

// JoinError is a refusal of a request to join.
type JoinError struct {
	Code    JoinCode `json:"code"`
	Message string   `json:"message"` // for people
}

// Error implements error.
func (e *JoinError) Error() string {
	return fmt.Sprintf("the cluster does not take this node: %s (%s)", e.Message, e.Code)
}

func badJoin(format string, args ...any) error {
	return &JoinError{Code: JoinBadRequest, Message: fmt.Sprintf(format, args...)}
}

// check names the first field that can't be.
func (r *JoinRequest) check() error {
	if err := CheckNode(r.Node); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	for _, f := range []struct {
		name, text string
		optional   bool
	}{
		{"incarnation", r.Incarnation, false}, {"pop", r.PoP, false}, {"region", r.Region, true}, {"public_url", r.PublicURL, true},
	} {
		if err := checkJoinText(f.text, f.optional); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	if err := checkAddr(r.ClusterAddr); err != nil {
		return fmt.Errorf("cluster_addr: %w", err)
	}
	if len(r.Labels) > joinLabelsMax {
		return fmt.Errorf("labels: %d are more than %d", len(r.Labels), joinLabelsMax)
	}
	for k, v := range r.Labels {
		if err := errors.Join(checkJoinText(k, false), checkJoinText(v, true)); err != nil {
			return fmt.Errorf("labels: %w", err)
		}
	}
	return nil
}

func (a *JoinAnswer) check() error {
	if a.Error != nil {
		return nil
	}
	if a.Cluster == (ID{}) {
		return errors.New("cluster: the id is all zeros")
	}
	if err := checkJoinText(a.RootKey, true); err != nil {
		return fmt.Errorf("root_key: %w", err)
	}
	if len(a.Peers) == 0 || len(a.Peers) > joinPeersMax {
		return fmt.Errorf("peers: %d, want 1 to %d", len(a.Peers), joinPeersMax)
	}
	for node, addr := range a.Peers {
		if err := CheckNode(node); err != nil {
			return fmt.Errorf("peers: %w", err)
		}
		if err := checkAddr(addr); err != nil {
			return fmt.Errorf("peers: node %s: %w", node, err)
		}
	}
	return nil
}

func checkJoinText(s string, optional bool) error {
	switch {
	case s == "" && !optional:
		return errors.New("is empty")
	case len(s) > joinTextMax:
		return fmt.Errorf("%d bytes are more than %d", len(s), joinTextMax)
	case !utf8.ValidString(s):
		return errors.New("is not UTF-8")
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%.40q is not printable", s)
		}
	}
	return nil
}

func checkAddr(s string) error {
	if err := checkJoinText(s, false); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("%.80q is not HOST:PORT", s)
	}
	return nil
}

// encode gives the frame of the request.
func (r JoinRequest) encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("request to join: %w", err)
	}
	return joinFrame(r)
}

// encode gives the frame of the answer; an error's text is made printable and short enough.
func (a JoinAnswer) encode() ([]byte, error) {
	if a.Error != nil {
		a.Error = &JoinError{Code: a.Error.Code, Message: printable(a.Error.Message, joinTextMax)}
	}
	if err := a.check(); err != nil {
		return nil, err
	}
	return joinFrame(a)
}

func joinFrame(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(b) > joinFrameMax {
		return nil, fmt.Errorf("%d bytes are more than %d", len(b), joinFrameMax)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...), nil
}

// readJoinFrame reads the JSON of one frame from r, and not a byte more. Its error is a *JoinError for one that announces to be
// too long.
func readJoinFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if err := readFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size == 0 || size > joinFrameMax {
		return nil, badJoin("a message of %d bytes, want 1 to %d", size, joinFrameMax)
	}
	// What is announced is not there yet: memory follows what comes.
	b, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err == nil && len(b) < int(size) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

func decodeJoinRequest(b []byte) (JoinRequest, error) {
	var r JoinRequest
	if err := decodeJoin(b, &r); err != nil {
		return JoinRequest{}, err
	}
	if err := r.check(); err != nil {
		return JoinRequest{}, badJoin("%v", err)
	}
	return r, nil
}

func decodeJoinAnswer(b []byte) (JoinAnswer, error) {
	var a JoinAnswer
	if err := decodeJoin(b, &a); err != nil {
		return JoinAnswer{}, fmt.Errorf("answer: %w", err)
	}
	if e := a.Error; e != nil {
		return JoinAnswer{Version: a.Version, Error: &JoinError{Code: JoinCode(printable(string(e.Code), 64)), Message: printable(e.Message, joinTextMax)}}, nil
	}
	if err := a.check(); err != nil {
		return JoinAnswer{}, fmt.Errorf("answer: %w", err)
	}
	return a, nil
}

// decodeJoin reads JSON of this version, with no key that is unknown; another version is told before all else.
func decodeJoin(b []byte, into any) error {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return badJoin("%v", err)
	}
	if v.Version != JoinVersion {
		return &JoinError{Code: JoinVersions, Message: fmt.Sprintf("the message has version %d, this node knows %d", v.Version, JoinVersion)}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return badJoin("%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return badJoin("something follows the JSON value")
	}
	return nil
}
