package crr

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"time"
)

// uuid7Func is uuid7(): a key that sorts by time and that no two sites make (RFC 9562, 5.7).
func uuid7Func(cfg Config) Func {
	random := cfg.Random
	if random == nil {
		random = rand.Reader
	}
	return Func{"uuid7", 0, func(r Result, _ Args) {
		u, err := uuid7(cfg.Now(), random)
		if err != nil {
			r.Error(err)
			return
		}
		r.Text(u)
	}}
}

func uuid7(now time.Time, random io.Reader) (string, error) {
	var u [16]byte
	if _, err := io.ReadFull(random, u[6:]); err != nil {
		return "", err
	}
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		u[i] = byte(ms >> (40 - 8*i))
	}
	u[6] = u[6]&0x0f | 0x70
	u[8] = u[8]&0x3f | 0x80
	b := make([]byte, 36)
	hex.Encode(b, u[:4])
	hex.Encode(b[9:], u[4:6])
	hex.Encode(b[14:], u[6:8])
	hex.Encode(b[19:], u[8:10])
	hex.Encode(b[24:], u[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b), nil
}
