package httpapi

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
)

// packMin is the size in bytes from which an answer is worth packing.
const packMin = 4 << 10

// packs says whether the client takes gzip.
func packs(r *http.Request) bool {
	list := r.Header["Accept-Encoding"]
	if len(list) == 1 && list[0] == "gzip" { // Go's client
		return true
	}
	for _, l := range list {
		for item := range strings.SplitSeq(l, ",") {
			if name, q := mediaQuality(item); (name == "gzip" || name == "x-gzip") && q > 0 {
				return true
			}
		}
	}
	return false
}

// packer gives a gzip.Writer to w; put it back by h.packers.Put.
func (h *Handler) packer(w io.Writer) *gzip.Writer {
	z, _ := h.packers.Get().(*gzip.Writer)
	if z == nil {
		z, _ = gzip.NewWriterLevel(w, gzip.BestSpeed) // the level is valid
		return z
	}
	z.Reset(w)
	return z
}

// markPacked sets the headers of a packed answer.
func markPacked(header http.Header) {
	header.Set("Content-Encoding", "gzip")
	header.Add("Vary", "Accept-Encoding")
}
