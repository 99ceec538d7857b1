package main

import (
	"context"
	"io"
	"math"
	"net"
	"sync"
	"time"
)

// place is where a PoP is, in degrees.
type place struct{ lat, long float64 }

// places are PoPs by the codes of their airports, for nearsql dev.
var places = map[string]place{
	"ams": {52.3, 4.8}, "arn": {59.6, 17.9}, "atl": {33.6, -84.4}, "bog": {4.7, -74.1}, "bom": {19.1, 72.9}, "cdg": {49.0, 2.5},
	"del": {28.6, 77.1}, "den": {39.9, -104.7}, "dfw": {32.9, -97.0}, "dub": {53.4, -6.3}, "eze": {-34.8, -58.5}, "fra": {50.0, 8.6},
	"gru": {-23.4, -46.5}, "hkg": {22.3, 113.9}, "iad": {38.9, -77.5}, "icn": {37.5, 126.4}, "jnb": {-26.1, 28.2}, "lax": {33.9, -118.4},
	"lhr": {51.5, -0.5}, "mad": {40.5, -3.6}, "nrt": {35.8, 140.4}, "ord": {42.0, -87.9}, "sin": {1.4, 104.0}, "sjc": {37.4, -121.9},
	"syd": {-33.9, 151.2}, "waw": {52.2, 21.0}, "yyz": {43.7, -79.6},
}

// roundTrip guesses the time from one place to another and back over cables: light in glass, by a way half as long again.
func roundTrip(a, b place) time.Duration {
	const earth, speed, detour = 6371.0, 200.0, 1.5 // km, km/ms, of the great circle
	rad := func(d float64) float64 { return d * math.Pi / 180 }
	h := math.Pow(math.Sin(rad(b.lat-a.lat)/2), 2) + math.Cos(rad(a.lat))*math.Cos(rad(b.lat))*math.Pow(math.Sin(rad(b.long-a.long)/2), 2)
	km := 2 * earth * math.Asin(math.Sqrt(h))
	return time.Duration((1 + 2*detour*km/speed) * float64(time.Millisecond))
}

// farDialer dials, and makes what is sent and received over the connection take oneWay.
func farDialer(oneWay func(addr string) time.Duration) func(ctx context.Context, addr string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		delay := oneWay(addr)
		if delay <= 0 {
			return c, nil
		}
		return farConn(c, delay), nil
	}
}

// farConn is a connection whose other end is far away: bytes pass over it in order, each after the delay.
func farConn(c net.Conn, delay time.Duration) net.Conn {
	near, far := net.Pipe()
	go carry(far, c, delay)
	go carry(c, far, delay)
	return near
}

// carryWindow bounds the bytes under way in one direction of a connection.
const carryWindow = 8 << 20

// carry brings what from sends to to, later by delay, until one of them ends; then it ends both.
func carry(to, from net.Conn, delay time.Duration) {
	type piece struct {
		at time.Time
		b  []byte
	}
	var (
		mu    sync.Mutex
		room  = sync.NewCond(&mu)
		size  int
		ended bool
	)
	pieces := make(chan piece, 4096)
	go func() {
		defer close(pieces)
		for {
			b := make([]byte, 32<<10)
			n, err := from.Read(b)
			if n > 0 {
				mu.Lock()
				for size > carryWindow && !ended {
					room.Wait()
				}
				size += n
				over := ended
				mu.Unlock()
				if over {
					return
				}
				pieces <- piece{time.Now().Add(delay), b[:n:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.at))
		_, err := to.Write(p.b)
		mu.Lock()
		size -= len(p.b)
		ended = ended || err != nil
		room.Signal()
		mu.Unlock()
		if err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
	for range pieces { // what was read after the end
		_ = io.Discard
	}
}
