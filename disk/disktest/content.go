package disktest

import "io"

// chunkSize is the granularity of memory that file contents take; holes take none.
const chunkSize = 16 << 10

// sectorSize is what a disk writes whole or not at all.
const sectorSize = 512

// content is the bytes of a file, sparse. The zero value is empty.
type content struct {
	size   int64
	chunks []*[chunkSize]byte // nil is all zero
}

func (c *content) readAt(p []byte, off int64) (int, error) {
	if off >= c.size {
		return 0, io.EOF
	}
	want := len(p)
	if int64(want) > c.size-off {
		want = int(c.size - off)
	}
	for n := 0; n < want; {
		i, in := (off+int64(n))/chunkSize, int((off+int64(n))%chunkSize)
		part := p[n:min(want, n+chunkSize-in)]
		if chunk := c.chunk(i); chunk != nil {
			copy(part, chunk[in:])
		} else {
			clear(part)
		}
		n += len(part)
	}
	if want < len(p) {
		return want, io.EOF
	}
	return want, nil
}

func (c *content) chunk(i int64) *[chunkSize]byte {
	if i < int64(len(c.chunks)) {
		return c.chunks[i]
	}
	return nil
}

func (c *content) writeAt(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	c.size = max(c.size, off+int64(len(p)))
	for int64(len(c.chunks))*chunkSize < off+int64(len(p)) {
		c.chunks = append(c.chunks, nil)
	}
	for n := 0; n < len(p); {
		i, in := (off+int64(n))/chunkSize, int((off+int64(n))%chunkSize)
		if c.chunks[i] == nil {
			c.chunks[i] = new([chunkSize]byte)
		}
		n += copy(c.chunks[i][in:], p[n:])
	}
}

func (c *content) truncate(size int64) {
	if size < c.size {
		keep := (size + chunkSize - 1) / chunkSize
		if keep < int64(len(c.chunks)) {
			clear(c.chunks[keep:])
			c.chunks = c.chunks[:keep]
		}
		// What is beyond the size must read as zero when the file grows again.
		if in := size % chunkSize; in != 0 {
			if chunk := c.chunk(size / chunkSize); chunk != nil {
				clear(chunk[in:])
			}
		}
	}
	c.size = size
}

func (c *content) clone() content {
	d := content{size: c.size, chunks: make([]*[chunkSize]byte, len(c.chunks))}
	for i, chunk := range c.chunks {
		if chunk != nil {
			copied := *chunk
			d.chunks[i] = &copied
		}
	}
	return d
}
