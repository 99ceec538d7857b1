package tenant

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Set gives one limit a value from text, as a command line does: "size" and
// "10GiB", "statement_time" and "5s". Numbers may end with k, M or G (powers of
// 1000) or Ki, Mi or Gi (powers of 1024), each with or without B. "default" takes the limit back.
func (l *Limits) Set(name, value string) error {
	rows := l.table()
	for _, row := range rows {
		if row.name != name {
			continue
		}
		switch {
		case value == "default":
			if row.number != nil {
				*row.number = 0
			} else {
				*row.duration = 0
			}
			return nil
		case row.number != nil:
			n, err := ParseCount(value)
			if err != nil {
				return fmt.Errorf("limit %s: %w", name, err)
			}
			*row.number = n
		default:
			d, err := time.ParseDuration(value)
			if err != nil {
				return fmt.Errorf("limit %s: %.40q: want a number with a unit, like \"500ms\" or \"30s\"", name, value)
			}
			*row.duration = Duration(d)
		}
		if row.isZero() {
			return fmt.Errorf("limit %s: 0 is no limit; \"default\" takes it back", name)
		}
		return l.Validate()
	}
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = row.name
	}
	return fmt.Errorf("limit %.40q is unknown: there are %s", name, strings.Join(names, ", "))
}

func (r limit) isZero() bool {
	return r.number != nil && *r.number == 0 || r.duration != nil && *r.duration == 0
}

// ParseCount reads a whole number, as of bytes, with a unit or without, as Set does.
func ParseCount(s string) (int64, error) {
	digits := strings.TrimRight(s, "kKMGiB")
	unit := strings.TrimSuffix(s[len(digits):], "B")
	factor := map[string]int64{
		"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30,
	}[unit]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || factor == 0 {
		return 0, fmt.Errorf("%.40q: want a whole number, with k, M, G, Ki, Mi or Gi or without", s)
	}
	if n > math.MaxInt64/factor || n < -math.MaxInt64/factor {
		return 0, fmt.Errorf("%.40q is too large", s)
	}
	return n * factor, nil
}

// LimitValue is one limit as Set takes it.
type LimitValue struct{ Name, Value string }

// List gives all limits, in the order of the struct.
func (l Limits) List() []LimitValue {
	var list []LimitValue
	for _, row := range l.table() {
		value := ""
		if row.number != nil {
			value = strconv.FormatInt(*row.number, 10)
		} else {
			value = row.duration.String()
		}
		if row.isZero() {
			value = "default"
		}
		list = append(list, LimitValue{row.name, value})
	}
	return list
}
