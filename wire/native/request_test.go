package native

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/wire"
)

var testLimits = Limits{Statements: 4, Arguments: 20}

func TestDecodeRequest(t *testing.T) {
	one := func(s wire.Statement) wire.Request { return wire.Request{Statements: []wire.Statement{s}} }
	args := func(v ...wire.Value) wire.Request { return one(wire.Statement{SQL: "s", Args: v}) }
	for body, want := range map[string]wire.Request{
		`{"sql":"select 1"}`:                            one(wire.Statement{SQL: "select 1"}),
		" {\t\"args\" : [ ] ,\r\n \"sql\" : \"s\" } \n": one(wire.Statement{SQL: "s"}),
		`{"sql":"s","args":null}`:                       one(wire.Statement{SQL: "s"}),
		`{"sql":"s","args":[null,true,false,1,-1,0,-0]}`: args(wire.Null, wire.Integer(1), wire.Integer(0), wire.Integer(1),
			wire.Integer(-1), wire.Integer(0), wire.Integer(0)),
		`{"sql":"s","args":[9223372036854775807,-9223372036854775808,9007199254740993]}`: args(wire.Integer(math.MaxInt64),
			wire.Integer(math.MinInt64), wire.Integer(9007199254740993)),
		`{"sql":"s","args":[1.0,-0.5e1,1E3,1e-400,-0.0]}`: args(wire.Float(1), wire.Float(-5), wire.Float(1000), wire.Float(0),
			wire.Float(math.Copysign(0, -1))),
		`{"sql":"s","args":["","a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é\u0000"]}`: args(wire.Text(""), wire.Text("a\"\\/\b\f\n\r\té😀é\x00")),
		`{"sql":"s","args":[{"base64":""},{"base64":"AAE="},{"base64":"AAE"},{"base64":"AAEC"}]}`: args(wire.Blob(nil),
			wire.BlobString("\x00\x01"), wire.BlobString("\x00\x01"), wire.BlobString("\x00\x01\x02")),
		`{"sql":"s","args":[{"integer":"-9223372036854775808"},{"float":"inf"},{"float":"-inf"}]}`: args(wire.Integer(math.MinInt64),
			wire.Float(math.Inf(1)), wire.Float(math.Inf(-1))),
		`{"sql":"s","args":{}}`: one(wire.Statement{SQL: "s"}),
		`{"sql":"s","args":{"a":1,":b":"x"}}`: one(wire.Statement{SQL: "s", Named: []wire.NamedArg{
			{Name: "a", Value: wire.Integer(1)}, {Name: ":b", Value: wire.Text("x")}}}),
		`{"statements":[{"sql":"a"},{"sql":"b","args":[1]}]}`: {Batch: true, Statements: []wire.Statement{{SQL: "a"},
			{SQL: "b", Args: []wire.Value{wire.Integer(1)}}}},
	} {
		for _, pad := range []int{0, sharedMax} { // both ways to make strings
			var got wire.Request
			if err := DecodeRequest([]byte(body+strings.Repeat(" ", pad)), testLimits, &got); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %+v, %v, want %+v", body, got, err, want)
			}
		}
	}
}

func TestDecodeRequestRefuses(t *testing.T) {
	arg := func(a string) string { return `{"sql":"s","args":[0,` + a + `]}` }
	many := strings.Repeat("1,", 20) + "1"
	var named []string
	for _, c := range "abcdefghijklmnopqrs" {
		named = append(named, `"`+string(c)+`":1`)
	}
	for _, c := range []struct {
		body, message string
		code          wire.Code
	}{
		{``, "the body ends", wire.CodeBadJSON},
		{`nul`, "body: want an object, found null", wire.CodeBadJSON},
		{`[]`, "body: want an object, found an array", wire.CodeBadJSON},
		{`{`, "want the name of a field, found the end", wire.CodeBadJSON},
		{`{"sql"}`, "want ':', found '}'", wire.CodeBadJSON},
		{`{"sql":"s"`, "want ',' or '}', found the end", wire.CodeBadJSON},
		{`{"sql":"s",}`, "comma before '}'", wire.CodeBadJSON},
		{`{"sql":"s"} x`, "more after", wire.CodeBadJSON},
		{`{"sql":"s"}{}`, "more after", wire.CodeBadJSON},
		{"{\"sql\":\"s\"}\x00", "more after", wire.CodeBadJSON},
		{`{sql:"s"}`, "want the name of a field, found 's'", wire.CodeBadJSON},
		{`{"sql":1}`, "sql: want a string, found a number", wire.CodeBadJSON},
		{`{"sql":null}`, "sql: want a string, found null", wire.CodeBadJSON},
		{`{"sql":"s","args":1}`, "args: want an array, an object or null, found a number", wire.CodeBadJSON},
		{`{"sql":"s","args":nil}`, "want null", wire.CodeBadJSON},
		{`{"statements":{}}`, "statements: want an array, found an object", wire.CodeBadJSON},
		{`{"statements":["x"]}`, "statements[0]: want an object, found a string", wire.CodeBadJSON},
		{`{"statements":[{"sql":"a"},{"sql":true}]}`, "statements[1].sql: want a string, found a boolean", wire.CodeBadJSON},
		{`{"statements":[]}`, "is empty", wire.CodeEmptyStatement},
		{`{"statements":[{}]}`, `statements[0] has no "sql"`, wire.CodeBadRequest},
		{`{"statements":[{"sql":"a"}],"sql":"s"}`, "both", wire.CodeBadRequest},
		{`{}`, "neither", wire.CodeBadRequest},
		{`{"args":[]}`, "neither", wire.CodeBadRequest},
		{`{"sql":"s","Args":[]}`, `unknown field "Args"`, wire.CodeUnknownField},
		{`{"sql":"s","sql":"s"}`, `"sql" comes twice`, wire.CodeUnknownField},
		{`{"statements":[{"sql":"s"}],"statements":[]}`, `comes twice`, wire.CodeUnknownField},
		{`{"sql":"s","args":{"a":1,"a":2}}`, `argument "a" comes twice`, wire.CodeUnknownField},
		{`{"sql":"s","args":{` + strings.Join(named, ",") + `,"b":2}}`, `argument "b" comes twice`, wire.CodeUnknownField},
		{`{"sql":"s` + "\\u0000" + `drop"}`, "NUL character at offset 1", wire.CodeBadRequest},
		{"{\"sql\":\"\xff\"}", "bad byte at offset 8", wire.CodeInvalidUTF8},
		{`{"sql":"\ud800"}`, `lone surrogate \ud800`, wire.CodeInvalidUTF8},
		{`{"sql":"\udc00\ud800"}`, "lone surrogate", wire.CodeInvalidUTF8},
		{`{"sql":"\ud800\u0041"}`, "lone surrogate", wire.CodeInvalidUTF8},
		{`{"sql":"\ud800\u00"}`, "four hexadecimal digits", wire.CodeBadJSON},
		{`{"sql":"\u12`, "four hexadecimal digits", wire.CodeBadJSON},
		{`{"sql":"\x"}`, "unknown escape", wire.CodeBadJSON},
		{`{"sql":"a\`, "does not end", wire.CodeBadJSON},
		{`{"sql":"a`, "does not end", wire.CodeBadJSON},
		{"{\"sql\":\"a\nb\"}", "control character", wire.CodeBadJSON},
		{"{\"sql\":\"\\n\nb\"}", "control character", wire.CodeBadJSON},
		{arg(`9223372036854775808`), "args[1]: integer 9223372036854775808 is beyond 64 bits", wire.CodeBadArgument},
		{arg(`-9223372036854775809`), "beyond 64 bits", wire.CodeBadArgument},
		{arg(strings.Repeat("9", 1000)), "9… is beyond 64 bits", wire.CodeBadArgument},
		{arg(`1e999`), "beyond what a real can be", wire.CodeBadArgument},
		{arg(`NaN`), "args[1]: want a value, found 'N'", wire.CodeBadJSON},
		{arg(`Infinity`), "want a value", wire.CodeBadJSON},
		{arg(`-Infinity`), "want a digit", wire.CodeBadJSON},
		{arg(`+1`), "want a value", wire.CodeBadJSON},
		{arg(`01`), "leading zero", wire.CodeBadJSON},
		{arg(`1.`), "want a digit after the point", wire.CodeBadJSON},
		{arg(`1e`), "want a digit in the exponent", wire.CodeBadJSON},
		{arg(`[1]`), "args[1]: an array is no SQLite value", wire.CodeBadArgument},
		{arg(`{}`), "args[1]: an object as an argument is", wire.CodeBadArgument},
		{arg(`{"blob":"x"}`), `args[1]: unknown field "blob"`, wire.CodeUnknownField},
		{arg(`{"base64":1}`), "args[1].base64: want a string", wire.CodeBadJSON},
		{arg(`{"base64":"x"}`), "bad base64", wire.CodeBadArgument},
		{arg(`{"base64":"AA="}`), "bad base64", wire.CodeBadArgument},
		{arg(`{"base64":"AB=="}`), "bad base64", wire.CodeBadArgument},
		{arg(`{"base64":"AAA\n"}`), "bad base64", wire.CodeBadArgument},
		{arg(`{"base64":"A_=="}`), "bad base64", wire.CodeBadArgument},
		{arg(`{"base64":"","x":1}`), "more than one field", wire.CodeUnknownField},
		{arg(`{"integer":"1.5"}`), "no integer", wire.CodeBadArgument},
		{arg(`{"integer":""}`), "no integer", wire.CodeBadArgument},
		{arg(`{"integer":"+1"}`), "no integer", wire.CodeBadArgument},
		{arg(`{"float":"nan"}`), `want "inf"`, wire.CodeBadArgument},
		{`{"sql":"s","args":[` + many + `]}`, "more than 20 arguments", wire.CodeArgumentCount},
		{`{"statements":[` + strings.Repeat(`{"sql":"s"},`, 4) + `{"sql":"s"}]}`, "more than 4 statements", wire.CodeTooManyStatements},
		{`{"sql":"s","args":` + strings.Repeat("[", 100000), "an array is no", wire.CodeBadArgument},
		{`{"` + strings.Repeat("é", 100000) + `":1}`, "unknown field", wire.CodeUnknownField},
	} {
		var got wire.Request
		err := DecodeRequest([]byte(c.body), testLimits, &got)
		var e *wire.Error
		if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Message, c.message) || len(e.Message) > 300 {
			t.Errorf("%.80s: got %v, want %s with %q", c.body, err, c.code, c.message)
		}
	}
	var e *wire.Error
	err := DecodeRequest([]byte(`{"statements":[{"sql":"a"},{"sql":"b","args":[[]]}]}`), testLimits, new(wire.Request))
	if !errors.As(err, &e) || e.Statement != 2 || !strings.HasPrefix(e.Message, "statements[1].args[0]: ") {
		t.Errorf("got %v", err)
	}
}
