package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codecs of the batch attributes.
const (
	codecNone = iota
	codecGzip
	codecSnappy
	codecLZ4
	codecZstd
)

var (
	errDecompressLimit = errors.New("decompress limit")
	errCodec           = errors.New("unknown codec")
)

// minZstdMemory is the largest window that producers use; the decoder refuses a frame
// whose window is above its memory, however short the content.
const minZstdMemory = 8 << 20

// decompressor decodes batches of every codec under one limit. It is used by one
// goroutine.
type decompressor struct {
	limit int // bytes per batch
	gz    *gzip.Reader
	lz    *lz4.Reader
	zs    *zstd.Decoder
	in    bytes.Reader
}

func newDecompressor(limit int) *decompressor { return &decompressor{limit: limit} }

func (d *decompressor) close() {
	if d.zs != nil {
		d.zs.Close()
	}
}

// append adds the decoded src to dst. It stops with errDecompressLimit as soon as more
// than limit bytes come out.
func (d *decompressor) append(dst, src []byte, codec int) ([]byte, error) {
	switch codec {
	case codecGzip:
		return d.gzip(dst, src)
	case codecSnappy:
		return d.snappy(dst, src)
	case codecLZ4:
		if d.lz == nil {
			d.lz = lz4.NewReader(nil)
		}
		d.in.Reset(src)
		d.lz.Reset(&d.in)
		return d.read(dst, d.lz)
	case codecZstd:
		return d.zstd(dst, src)
	}
	return dst, fmt.Errorf("%w %d", errCodec, codec)
}

func (d *decompressor) gzip(dst, src []byte) ([]byte, error) {
	d.in.Reset(src)
	if d.gz == nil {
		z, err := gzip.NewReader(&d.in)
		if err != nil {
			return dst, err
		}
		d.gz = z
	} else if err := d.gz.Reset(&d.in); err != nil {
		return dst, err
	}
	return d.read(dst, d.gz)
}

// read appends what r gives, up to the limit.
func (d *decompressor) read(dst []byte, r io.Reader) ([]byte, error) {
	base := len(dst)
	for {
		dst = slices.Grow(dst, 4096)
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if len(dst)-base > d.limit {
			return dst[:base], errDecompressLimit
		}
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst[:base], err
		}
	}
}

func (d *decompressor) zstd(dst, src []byte) ([]byte, error) {
	if d.zs == nil {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxMemory(uint64(max(d.limit, minZstdMemory))))
		if err != nil {
			return dst, err
		}
		d.zs = z
	}
	base := len(dst)
	out, err := d.zs.DecodeAll(src, dst)
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return dst[:base], errDecompressLimit
	case err != nil:
		return dst[:base], err
	case len(out)-base > d.limit:
		return dst[:base], errDecompressLimit
	}
	return out, nil
}

// xerialMagic starts the framing of the Java snappy library: magic, two version words,
// then blocks with a 4-byte length each.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeader = 16

func (d *decompressor) snappy(dst, src []byte) ([]byte, error) {
	base := len(dst)
	if !bytes.HasPrefix(src, xerialMagic) || len(src) < xerialHeader {
		return d.snappyBlock(dst, src, base)
	}
	src = src[xerialHeader:]
	for len(src) > 0 {
		if len(src) < 4 {
			return dst[:base], io.ErrUnexpectedEOF
		}
		n := int(binary.BigEndian.Uint32(src))
		src = src[4:]
		if n > len(src) {
			return dst[:base], io.ErrUnexpectedEOF
		}
		var err error
		if dst, err = d.snappyBlock(dst, src[:n], base); err != nil {
			return dst[:base], err
		}
		src = src[n:]
	}
	return dst, nil
}

func (d *decompressor) snappyBlock(dst, src []byte, base int) ([]byte, error) {
	n, err := snappy.DecodedLen(src)
	if err != nil {
		return dst[:base], err
	}
	if len(dst)-base+n > d.limit {
		return dst[:base], errDecompressLimit
	}
	dst = slices.Grow(dst, n)
	if _, err := snappy.Decode(dst[len(dst):len(dst)+n], src); err != nil {
		return dst[:base], err
	}
	return dst[:len(dst)+n], nil
}
