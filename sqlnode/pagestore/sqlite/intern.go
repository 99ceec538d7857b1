package sqlite

import "unsafe"

// interner gives the same Go string for the same C text: names of tables and
// columns come up again and again. It is bounded by forgetting all when full.
type interner struct {
	m map[string]string
}

const (
	internEntries = 1024 // most names remembered
	internLength  = 64   // bytes of the longest of them
)

// get returns the text at p, "" for p 0.
func (in *interner) get(p uintptr) string {
	if p == 0 {
		return ""
	}
	n := 0
	for n <= internLength && *at[byte](p + uintptr(n)) != 0 {
		n++
	}
	if n > internLength {
		return goString(p)
	}
	if s, ok := in.m[viewString(p, n)]; ok { // no copy for a look
		return s
	}
	s := string(unsafe.Slice((*byte)(unsafe.Add(nil, p)), n))
	if in.m == nil || len(in.m) >= internEntries {
		in.m = make(map[string]string)
	}
	in.m[s] = s
	return s
}
