package tenant

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// EventVersion is the newest version of the payload that EncodeEvent writes and DecodeEvent reads. An
// event is written in the version that it came with.
const EventVersion = 3

// version is the version of an event's payload; 0 for a code that is unknown.
func (c Code) version() byte {
	switch {
	case c >= CodeCreated && c <= CodePurged:
		return 1
	case c == CodeEpochRaised:
		return 2
	case c == CodeTablesChanged:
		return 3
	}
	return 0
}

// MaxEventSize bounds a payload, in bytes. No event of version 1 comes near it.
const MaxEventSize = 16 << 10

// EventFormatError says why a payload is no event.
type EventFormatError struct {
	Event Code
	What  string
	Err   error // the cause, or nil
}

func (e *EventFormatError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("payload of event %q: %s: %v", e.Event, e.What, e.Err)
	}
	return fmt.Sprintf("payload of event %q: %s", e.Event, e.What)
}

func (e *EventFormatError) Unwrap() error { return e.Err }

// EventVersionError says that a payload is of a version that this program
// doesn't know, and so was written by a newer one.
type EventVersionError struct {
	Event Code
	Found byte
}

func (e *EventVersionError) Error() string {
	return fmt.Sprintf("payload of event %q has version %d, this program knows version %d", e.Event, e.Found, e.Event.version())
}

// EncodeEvent gives the payload of a control entry, as in FORMAT.md. It
// refuses an event that could not be read back.
func EncodeEvent(e Event) ([]byte, error) {
	if e == nil {
		return nil, &EventFormatError{What: "there is no event"}
	}
	return encodeEvent(normal(e))
}

// encodeEvent encodes an event whose times are in the form of Millis.
func encodeEvent(e Event) ([]byte, error) {
	if err := check(e); err != nil {
		return nil, &EventFormatError{e.Code(), "can't be written", err}
	}
	var b bytes.Buffer
	b.WriteByte(e.Code().version())
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, &EventFormatError{e.Code(), "can't be written", err}
	}
	b.Truncate(b.Len() - 1) // Encode ends with a line feed
	if b.Len() > MaxEventSize {
		return nil, &EventFormatError{Event: e.Code(), What: fmt.Sprintf("%d bytes are more than %d", b.Len(), MaxEventSize)}
	}
	return b.Bytes(), nil
}

// DecodeEvent reads the payload of a control entry with the given code. It
// takes exactly the bytes that EncodeEvent writes: nothing unknown, no other
// order, no space. Its error is an *EventFormatError or *EventVersionError.
func DecodeEvent(c Code, payload []byte) (Event, error) {
	switch {
	case c.version() == 0:
		return nil, &EventFormatError{Event: c, What: "the code is unknown"}
	case len(payload) == 0:
		return nil, &EventFormatError{Event: c, What: "is empty"}
	case payload[0] != c.version():
		return nil, &EventVersionError{Event: c, Found: payload[0]}
	case len(payload) > MaxEventSize:
		return nil, &EventFormatError{Event: c, What: fmt.Sprintf("%d bytes are more than %d", len(payload), MaxEventSize)}
	case !utf8.Valid(payload):
		return nil, &EventFormatError{Event: c, What: "is not UTF-8"}
	}
	e, err := unmarshal(c, payload[1:])
	if err != nil {
		return nil, &EventFormatError{c, "is not as in FORMAT.md", err}
	}
	again, err := encodeEvent(e)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, payload) {
		return nil, &EventFormatError{Event: c, What: "is not in its one form: keys are unknown, missing, or out of order"}
	}
	return e, nil
}

func unmarshal(c Code, b []byte) (Event, error) {
	switch c {
	case CodeCreated:
		return into[Created](b)
	case CodeDeleted:
		return into[Deleted](b)
	case CodeUndeleted:
		return into[Undeleted](b)
	case CodeRenamed:
		return into[Renamed](b)
	case CodeFrozen:
		return into[Frozen](b)
	case CodeThawed:
		return into[Thawed](b)
	case CodeLimitsChanged:
		return into[LimitsChanged](b)
	case CodePurged:
		return into[Purged](b)
	case CodeEpochRaised:
		return into[EpochRaised](b)
	case CodeTablesChanged:
		return into[TablesChanged](b)
	}
	return into[PlacementChanged](b)
}

func into[E Event](b []byte) (Event, error) {
	var e E
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("something follows the JSON value")
	}
	return e, nil
}

// normal is e with its times in the form of Millis.
func normal(e Event) Event {
	switch e := e.(type) {
	case Created:
		e.Tenant.Created, e.Tenant.Deleted = Millis(e.Tenant.Created), Millis(e.Tenant.Deleted)
		return e
	case Deleted:
		e.Time = Millis(e.Time)
		return e
	case Undeleted:
		e.Time = Millis(e.Time)
		return e
	case Renamed:
		e.Time = Millis(e.Time)
		return e
	case Frozen:
		e.Time = Millis(e.Time)
		return e
	case Thawed:
		e.Time = Millis(e.Time)
		return e
	case LimitsChanged:
		e.Time = Millis(e.Time)
		return e
	case PlacementChanged:
		e.Time = Millis(e.Time)
		return e
	case Purged:
		e.Time = Millis(e.Time)
		return e
	case EpochRaised:
		e.Time = Millis(e.Time)
		return e
	case TablesChanged:
		e.Time = Millis(e.Time)
		return e
	}
	return e
}

// check refuses an event that no state could take.
func check(e Event) error {
	switch e := e.(type) {
	case Created:
		return e.Tenant.Validate()
	case Deleted:
		return wantTime(e.Time)
	case Undeleted:
		if _, err := ParseName(string(e.Name)); err != nil {
			return err
		}
		return wantTime(e.Time)
	case Renamed:
		if _, err := ParseName(string(e.Name)); err != nil {
			return err
		}
		return wantTime(e.Time)
	case Frozen:
		return wantTime(e.Time)
	case Thawed:
		return wantTime(e.Time)
	case LimitsChanged:
		if err := e.Limits.Validate(); err != nil {
			return err
		}
		return wantTime(e.Time)
	case PlacementChanged:
		if err := e.Placement.Validate(); err != nil {
			return err
		}
		return wantTime(e.Time)
	case Purged:
		return wantTime(e.Time)
	case EpochRaised:
		if e.Epoch < 2 {
			return fmt.Errorf("epoch %d follows none", e.Epoch)
		}
		return wantTime(e.Time)
	case TablesChanged:
		if e.Version == 0 || e.Version > 1<<62 {
			return fmt.Errorf("version %d of the conflict-free schema can't be", e.Version)
		}
		return wantTime(e.Time)
	}
	return fmt.Errorf("%T is no event of this package", e)
}

func wantTime(t time.Time) error {
	if t.IsZero() {
		return fmt.Errorf("has no time")
	}
	return checkTime(t)
}
