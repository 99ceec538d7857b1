package txn

import "iter"

// SplitParts cuts body into payloads of parts, all of MaxPayload bytes but the
// last, numbered from 0. They are pieces of body.
func SplitParts(body []byte) iter.Seq2[uint32, []byte] {
	return func(yield func(uint32, []byte) bool) {
		for number := uint32(0); len(body) > 0; number++ {
			n := min(MaxPayload, len(body))
			if !yield(number, body[:n:n]) {
				return
			}
			body = body[n:]
		}
	}
}

// PartHeader is the header of part number of the transaction with header h, as h
// was given to Begin. A part does not move the tenant's position.
func PartHeader(h *Header, operation uint64, number uint32) Header {
	return Header{
		Kind: Part, Tenant: h.Tenant, Epoch: h.Epoch, Group: h.Group, Policy: h.Policy, PageSize: h.PageSize,
		PrevTXID: h.PrevTXID, NextTXID: h.PrevTXID, PrevSum: h.PrevSum, NextSum: h.PrevSum,
		TimeUnixMilli: h.TimeUnixMilli,
		Operation:     operation, Part: number,
	}
}
