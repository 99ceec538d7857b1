package tenant

import "fmt"

// Name is what people call a tenant: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`, which is
// one label of a host name. A Name that ParseName gave is valid ever after.
type Name string

// SystemName is the reserved name of the tenant that holds the catalogue.
const SystemName Name = "system"

// MaxNameLen is the greatest length of a name, in bytes: that of a label of
// a host name (RFC 1035, section 2.3.4).
const MaxNameLen = 63

// NameError says why a text can't name a tenant.
type NameError struct {
	Name   string // as given, cut to a printable length
	Reason string
}

func (e *NameError) Error() string { return fmt.Sprintf("tenant name %q: %s", e.Name, e.Reason) }

// ParseName checks a name that a user chose for a tenant. Its error is a *NameError.
func ParseName(s string) (Name, error) {
	if reason := nameFault(s); reason != "" {
		return "", nameError(s, reason)
	}
	if Name(s) == SystemName {
		return "", nameError(s, "is reserved")
	}
	return Name(s), nil
}

// ParseAnyName is ParseName that also takes the reserved names: for looking a tenant up.
func ParseAnyName(s string) (Name, error) {
	if reason := nameFault(s); reason != "" {
		return "", nameError(s, reason)
	}
	return Name(s), nil
}

func nameError(s, reason string) *NameError {
	if len(s) > 2*MaxNameLen {
		s = s[:2*MaxNameLen] + "…"
	}
	return &NameError{Name: s, Reason: reason}
}

func nameFault(s string) string {
	if s == "" {
		return "is empty"
	}
	if len(s) > MaxNameLen {
		return fmt.Sprintf("has %d bytes, at most %d are allowed", len(s), MaxNameLen)
	}
	for i, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
		case r >= 'A' && r <= 'Z':
			return fmt.Sprintf("has an upper-case letter %q at position %d; use lower case", r, i+1)
		default:
			return fmt.Sprintf("has %q at position %d; only a-z, 0-9 and '-' are allowed", r, i+1)
		}
	}
	if s[0] == '-' {
		return "begins with '-'"
	}
	if s[len(s)-1] == '-' {
		return "ends with '-'"
	}
	return ""
}
