package native

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/wire"
)

// FuzzRequest: what is accepted is JSON, and encoding/json finds the same in it.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"sql":"a","args":[1,-2.5e3,"x\u00e9\n",null,true,{"base64":"AAE="},{"integer":"7"},{"float":"-inf"}]}`,
		`{"sql":"a","args":{"a":1,":b":null}}`,
		`{"statements":[{"sql":"a"},{"args":[],"sql":"b"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got wire.Request
		err := DecodeRequest(body, testLimits, &got)
		if err != nil {
			e := wire.AsError(err)
			if e.Code == wire.CodeInternal || e.Code == wire.CodeBadJSON && strings.HasPrefix(e.Message, "malformed") && json.Valid(body) {
				t.Fatalf("%v, but encoding/json takes it", err)
			}
			return
		}
		if !json.Valid(body) {
			t.Fatal("encoding/json does not take it")
		}
		want := reference(t, body)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

// reference reads a request by way of encoding/json.
func reference(t *testing.T, body []byte) wire.Request {
	type statement struct {
		SQL  string          `json:"sql"`
		Args json.RawMessage `json:"args"`
	}
	var in struct {
		statement
		Statements []statement `json:"statements"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		t.Fatal(err)
	}
	req := wire.Request{Batch: in.Statements != nil}
	if !req.Batch {
		in.Statements = []statement{in.statement}
	}
	for _, s := range in.Statements {
		out := wire.Statement{SQL: s.SQL}
		d := json.NewDecoder(bytes.NewReader(s.Args))
		d.UseNumber()
		for first := true; d.More(); first = false {
			token, err := d.Token()
			if err != nil {
				t.Fatal(err)
			}
			if token == nil {
				break
			}
			if !first || token != json.Delim('[') && token != json.Delim('{') {
				t.Fatalf("token %v", token)
			}
			for d.More() {
				var name any
				if token == json.Delim('{') {
					if name, err = d.Token(); err != nil {
						t.Fatal(err)
					}
				}
				var v any
				if err := d.Decode(&v); err != nil {
					t.Fatal(err)
				}
				value := referenceValue(t, v)
				if name == nil {
					out.Args = append(out.Args, value)
				} else {
					out.Named = append(out.Named, wire.NamedArg{Name: name.(string), Value: value})
				}
			}
			if _, err := d.Token(); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			break
		}
		req.Statements = append(req.Statements, out)
	}
	return req
}

func referenceValue(t *testing.T, v any) wire.Value {
	switch v := v.(type) {
	case nil:
		return wire.Null
	case bool:
		if v {
			return wire.Integer(1)
		}
		return wire.Integer(0)
	case string:
		return wire.Text(v)
	case json.Number:
		if !strings.ContainsAny(string(v), ".eE") {
			i, err := v.Int64()
			if err != nil {
				t.Fatal(err)
			}
			return wire.Integer(i)
		}
		f, err := v.Float64()
		if err != nil {
			t.Fatal(err)
		}
		return wire.Float(f)
	case map[string]any:
		for k, s := range v {
			switch k {
			case "base64":
				b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s.(string), "="))
				if err != nil {
					t.Fatal(err)
				}
				return wire.Blob(b)
			case "integer":
				i, err := strconv.ParseInt(s.(string), 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				return wire.Integer(i)
			case "float":
				if s == "inf" {
					return wire.Float(math.Inf(1))
				}
				return wire.Float(math.Inf(-1))
			}
		}
	}
	t.Fatalf("accepted %v", v)
	return wire.Null
}

// FuzzString: encoding/json reads back what AppendString wrote, and DecodeRequest every value.
func FuzzString(f *testing.F) {
	f.Add("a\"\\\n\x00é\xff😀", int64(-5), 1.5)
	f.Fuzz(func(t *testing.T, s string, i int64, x float64) {
		quoted := AppendString(nil, s)
		var back string
		if err := json.Unmarshal(quoted, &back); err != nil || back != validUTF8(s) {
			t.Fatalf("%s: got %q, %v", quoted, back, err)
		}
		values := []wire.Value{wire.Text(back), wire.Integer(i), wire.Float(x), wire.BlobString(s), wire.Null}
		body := []byte(`{"sql":"s","args":[`)
		for n, v := range values {
			if n > 0 {
				body = append(body, ',')
			}
			body = AppendValue(body, v, Options{})
		}
		var req wire.Request
		if err := DecodeRequest(append(body, "]}"...), testLimits, &req); err != nil || !reflect.DeepEqual(req.Statements[0].Args, values) {
			t.Fatalf("%s: got %v, %v", body, req.Statements, err)
		}
	})
}
