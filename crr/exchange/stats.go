package exchange

import (
	"sync/atomic"

	"github.com/nearsql/nearsql/crr/exchange/frame"
)

// Stats counts what an Exchange did; for metrics.
type Stats struct {
	Links         atomic.Int64 // open
	Pushes        atomic.Int64 // made
	PushesSent    atomic.Int64 // to one peer each
	PushesDropped atomic.Int64 // not sent, or not merged: a peer was slow, or what they follow did not come
	Relayed       atomic.Int64 // of other sites, passed on
	TooLarge      atomic.Int64 // transactions that were left to pulls
	Pulls         atomic.Int64 // that have ended
	Answers       atomic.Int64 // made, not counting those with nothing new
	Merged        atomic.Int64 // batches that brought something
	Rows          atomic.Int64 // that they changed
	Fetches       atomic.Int64 // copies
	Stalled       atomic.Int64 // answers that their peer did not take
	Strangers     atomic.Int64 // frames for tenants that this node or the other end is no site of
	Held          atomic.Int64 // pulls and pushes that came to nothing since their site's clock ran ahead; they are tried again
	Refused       atomic.Int64 // what no peer should have sent
	Failures      atomic.Int64
	BytesSent     [frame.TypePush + 1]atomic.Int64 // data of answers, pushes and requests, by type of frame
	BytesReceived [frame.TypePush + 1]atomic.Int64
}

// dataOf is the bytes of a frame that are not of fixed size.
func dataOf(f frame.Frame) int {
	switch f := f.(type) {
	case frame.Pull:
		return len(f.Request)
	case frame.Answer:
		return len(f.Data)
	case frame.Push:
		return len(f.Data)
	}
	return 0
}

func (s *Stats) sent(f frame.Frame)     { s.BytesSent[f.Type()].Add(int64(dataOf(f))) }
func (s *Stats) received(f frame.Frame) { s.BytesReceived[f.Type()].Add(int64(dataOf(f))) }
