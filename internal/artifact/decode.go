package artifact

import (
	"crypto/sha256"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/towline/towline/internal/release"
)

// newDecoder decompresses frames, several at a time. What it reads has a digest that was checked, and what it makes of it has
// one too, so the checksum in between is not.
func newDecoder(several int) (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(several), zstd.WithDecoderLowmem(true), zstd.IgnoreChecksum(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecodeAllCapLimit(true))
}

// decode checks a frame as it was read, decompresses it into buf, which has the room that it needs, and checks its content.
func decode(d *zstd.Decoder, i int, frames []Frame, packed, buf []byte) error {
	want := frames[i]
	if sum := sha256.Sum256(packed); sum != want.SHA256 {
		return fmt.Errorf("%w: frame %d of %d: its SHA-256 is %x, want %x", release.ErrVerify, i+1, len(frames), sum, want.SHA256)
	}
	out, err := d.DecodeAll(packed, buf[:0:want.UnpackedSize])
	if err != nil {
		return fmt.Errorf("%w: frame %d of %d: %w", release.ErrVerify, i+1, len(frames), err)
	}
	if int64(len(out)) != want.UnpackedSize || sha256.Sum256(out) != want.Content {
		return fmt.Errorf("%w: frame %d of %d: its content is not what the index says", release.ErrVerify, i+1, len(frames))
	}
	return nil
}
