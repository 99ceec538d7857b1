package httpapi

import (
	"fmt"
	"strings"
	"time"
)

// Config of a Handler.
type Config struct {
	// Body bounds the body of a request other than an import, in bytes, packed and
	// unpacked. Who inserts large blobs raises it.
	Body int64
	// Answer bounds an answer that is not streamed, in bytes of JSON: the node's
	// own bound, beside those of tenants.
	Answer int
	// Statements and Arguments bound a batch, and a statement's arguments; tenants' limits may be lower.
	Statements int
	Arguments  int
	// Stall is how long a client may give no byte of a body, or take none of an answer.
	Stall time.Duration
	// ForwardPatience is how long a request for which no node answers yet is tried again; the
	// request's own timeout may be shorter. 0 is for one try.
	ForwardPatience time.Duration
	// ForwardSilence is how long another node may give no byte of an answer, or take none of a body. A
	// statement that runs longer on another node needs a longer one.
	ForwardSilence time.Duration
	// Origins are those whose pages may use the API (CORS), as "https://app.example"; "*" is all.
	Origins []string
	// OpenMetrics gives /metrics to all who reach the node, for a scraper without a token.
	OpenMetrics bool
}

// DefaultConfig is for most nodes.
func DefaultConfig() Config {
	return Config{Body: 16 << 20, Answer: 64 << 20, Statements: 1000, Arguments: 32766, Stall: 30 * time.Second,
		ForwardPatience: 10 * time.Second, ForwardSilence: 5 * time.Minute}
}

// Validate names the field that is wrong.
func (c *Config) Validate() error {
	switch {
	case c.Body < 1<<10:
		return fmt.Errorf("config field Body: %d bytes are too few, want at least 1024", c.Body)
	case c.Answer < 1<<10:
		return fmt.Errorf("config field Answer: %d bytes are too few, want at least 1024", c.Answer)
	case c.Statements < 1:
		return fmt.Errorf("config field Statements: %d is too few", c.Statements)
	case c.Arguments < 1:
		return fmt.Errorf("config field Arguments: %d is too few", c.Arguments)
	case c.Stall <= 0:
		return fmt.Errorf("config field Stall: %v is too short", c.Stall)
	case c.ForwardPatience < 0:
		return fmt.Errorf("config field ForwardPatience: %v is negative", c.ForwardPatience)
	case c.ForwardSilence <= 0:
		return fmt.Errorf("config field ForwardSilence: %v is too short", c.ForwardSilence)
	}
	for _, o := range c.Origins {
		if o == "*" {
			continue
		}
		if scheme, host, ok := strings.Cut(o, "://"); !ok || scheme == "" || host == "" || strings.ContainsAny(host, "/?#* ") {
			return fmt.Errorf("config field Origins: %q is no origin: want a scheme and a host, as https://app.example", o)
		}
	}
	return nil
}
