package sqlite

import (
	"net/url"
	"path/filepath"
)

// FileURI is the URI of a file for Open and ATTACH, with a query of SQLite's such as vfs=unix. The path may be relative: then it is one to
// the working directory, and not, as after "file://", the name of a host. See https://sqlite.org/uri.html.
func FileURI(path, query string) string {
	u := url.URL{Path: filepath.ToSlash(filepath.Clean(path))}
	return "file:" + u.EscapedPath() + "?" + query
}
