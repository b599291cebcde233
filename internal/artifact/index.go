package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/towline/towline/internal/release"
)

// Frame is one zstd frame of an artifact.
type Frame struct {
	Offset       int64    // of its first byte in the artifact
	Size         int64    // bytes in the artifact
	UnpackedSize int64    // bytes of its content
	SHA256       [32]byte // of the frame
	Content      [32]byte // SHA-256 of its content: the same in two artifacts when the content is
}

// Index is the list of frames of an artifact. Only ReadIndex makes one, so its sums and limits hold.
type Index struct {
	Frames []Frame
}

// UnpackedSize is the length of the tar stream in bytes.
func (x Index) UnpackedSize() int64 {
	var n int64
	for _, f := range x.Frames {
		n += f.UnpackedSize
	}
	return n
}

const (
	skippableMagic = 0x184D2A5E
	indexMagic     = "TLIX"
	indexVersion   = 1
	indexHead      = 20
	indexEntry     = 72
)

// ErrNewer says that an index is of a kind that came after this agent. The artifact can be had whole all the same: whatever the
// index, what precedes it is a tar+zstd archive.
var ErrNewer = fmt.Errorf("%w by this agent, which is older", errors.ErrUnsupported)

// appendIndex appends the index frame of the layout in the package comment.
func appendIndex(b []byte, frames []Frame) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, skippableMagic)
	// #nosec G115 -- ReadIndex and Pack see to the bounds: fewer than 2^18 frames, none above 8 MiB
	head, count := uint32(indexHead-8+indexEntry*len(frames)), uint32(len(frames))
	b = le.AppendUint32(b, head)
	b = append(b, indexMagic...)
	b = le.AppendUint32(b, indexVersion)
	b = le.AppendUint32(b, count)
	for _, f := range frames {
		b = le.AppendUint32(b, uint32(f.Size))         // #nosec G115 -- see above
		b = le.AppendUint32(b, uint32(f.UnpackedSize)) // #nosec G115 -- see above
		b = append(b, f.SHA256[:]...)
		b = append(b, f.Content[:]...)
	}
	return b
}

// CheckIndex says whether want, which comes signed, describes an index that ReadIndex can accept at all, so that a
// caller knows before it fetches want.Index.Size bytes. Errors wrap release.ErrVerify.
func CheckIndex(want release.Artifact) error {
	x := want.Index
	switch {
	case want.Format != release.FormatZstd:
		return refuseIndex("the format is %q, only %q has an index", want.Format, release.FormatZstd)
	case x == nil:
		return refuseIndex("the artifact has none")
	case x.Offset <= 0 || x.Size < indexHead || x.Size > maxIndex:
		return refuseIndex("offset %d and size %d are out of range", x.Offset, x.Size)
	case want.Size-x.Size != x.Offset:
		return refuseIndex("it does not end the artifact: offset %d, size %d, artifact of %d bytes", x.Offset, x.Size, want.Size)
	}
	return nil
}

// ReadIndex checks data, the bytes that want.Index names, and decodes them. Its errors wrap release.ErrVerify: the digest
// differs, it is malformed, or the sizes do not add up to what want says. One that is signed, and of a layout that this agent does not
// know, is ErrNewer, which wraps errors.ErrUnsupported.
func ReadIndex(data []byte, want release.Artifact) (Index, error) {
	if err := CheckIndex(want); err != nil {
		return Index{}, err
	}
	if int64(len(data)) != want.Index.Size {
		return Index{}, refuseIndex("%d bytes, want %d", len(data), want.Index.Size)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != want.Index.SHA256 {
		return Index{}, refuseIndex("its SHA-256 is %x, want %s", sum, want.Index.SHA256)
	}
	le := binary.LittleEndian
	if name, version := string(data[8:12]), le.Uint32(data[12:]); skippable(data) && (name != indexMagic || version > indexVersion) {
		return Index{}, fmt.Errorf("frame index: %q of version %d: %w", name, version, ErrNewer)
	}
	n := (len(data) - indexHead) / indexEntry
	x := Index{Frames: make([]Frame, n)}
	var offset, unpacked int64
	for i := range x.Frames {
		b := data[indexHead+i*indexEntry:]
		f := &x.Frames[i]
		f.Offset, f.Size, f.UnpackedSize = offset, int64(le.Uint32(b)), int64(le.Uint32(b[4:]))
		copy(f.SHA256[:], b[8:])
		copy(f.Content[:], b[40:])
		if f.UnpackedSize == 0 || f.UnpackedSize > maxFrame || f.Size == 0 || f.Size > frameBound(f.UnpackedSize) {
			return Index{}, refuseIndex("frame %d has %d bytes for %d of content", i, f.Size, f.UnpackedSize)
		}
		offset += f.Size
		unpacked += f.UnpackedSize
	}
	// One encoding for one index: whatever the loop did not look at must be what the writer writes.
	if !bytes.Equal(appendIndex(nil, x.Frames), data) {
		return Index{}, refuseIndex("it is malformed")
	}
	if n < 2 || offset != want.Index.Offset {
		return Index{}, refuseIndex("%d frames with %d bytes in all, the index lies at %d", n, offset, want.Index.Offset)
	}
	if unpacked > streamLimit(want.UnpackedSize, want.Entries) {
		return Index{}, refuseIndex("a tar stream of %d bytes for %d entries with %d bytes", unpacked, want.Entries, want.UnpackedSize)
	}
	return x, nil
}

// skippable reports whether data is one whole zstd skippable frame, which any index will be.
func skippable(data []byte) bool {
	le := binary.LittleEndian
	return len(data) >= 8 && le.Uint32(data)&^0xf == skippableMagic&^0xf && int64(le.Uint32(data[4:])) == int64(len(data)-8)
}

// frameBound is the most that a zstd frame of n bytes of content takes: incompressible blocks are stored as they are.
func frameBound(n int64) int64 { return n + n>>8 + 1024 }

func refuseIndex(format string, args ...any) error {
	return fmt.Errorf("%w: frame index: "+format, append([]any{release.ErrVerify}, args...)...)
}
