#!/usr/bin/env bash
# All that must be clean before a change goes in, but the long tests: format,
# vet, staticcheck, and every test once. .ci/run does this and more.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0

echo "== gofmt"
# Generated trees and testdata have no Go files of ours.
unformatted=$(git ls-files --cached --others --exclude-standard -z -- '*.go' | xargs -0 gofmt -l)
if [ -n "$unformatted" ]; then
	echo "not formatted; run gofmt -w on:" >&2
	echo "$unformatted" >&2
	exit 1
fi

echo "== go vet"
go vet ./...

echo "== staticcheck"
go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

if [ "${1-}" = --lint ]; then
	exit 0
fi

echo "== go test"
go test ./...
