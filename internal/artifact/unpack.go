package artifact

import (
	"bufio"
	"compress/gzip" // net/http has it in the agent in any case; the other library's would come on top
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/towline/towline/internal/release"
)

// UnpackOptions says what must come out and what is left out.
type UnpackOptions struct {
	// Want is the signed description. Its Entries and UnpackedSize must be met exactly. With an empty SHA256 there is
	// no description (a plain pointer): then at most MaxEntries entries and 1000 times the archive's own size.
	Want release.Artifact
	// Skip lists paths that are shared between releases: entries at or below one are left out. Slashes at the end
	// do not matter.
	Skip  []string
	Mtime time.Time // of the files written; the zero time leaves the moment of writing
	// MaxBytes bounds the content of regular files, hard-linked copies included; 0 is no bound.
	MaxBytes int64
	Progress func(bytes int64) // called with the bytes of the artifact read so far; may be nil
	Warn     func(text string) // called for what is accepted but odd; may be nil
}

// Tree is what was unpacked.
type Tree struct {
	Entries int64    // entries of the archive that were written
	Bytes   int64    // of regular files written
	Digest  string   // as DigestTree gives it for the same Skip
	Listing Contents // as ListTree gives it for the same Skip

	// Of Bring only.
	Inventory Inventory // to bring another release forward from this one
	Files     int64     // regular ones of the tree
	Written   int64     // those of them that were written: Base had another there, or none
	Pulled    int64     // bytes of the artifact that were fetched
	Reused    int64     // bytes of the frames that Base had
	Copied    int64     // bytes of the frames that were copied from another release, or from another place of Base
}

// plainRatio bounds what an archive without a description may unpack to, over its own size.
const plainRatio = 1000

// VerifyFile reads f to its end and checks that it has the size and the SHA-256 of want. It reads one byte past the
// size at most. A mismatch wraps release.ErrVerify, an error of f does not.
func VerifyFile(f io.Reader, want release.Artifact) error {
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(f, want.Size+1))
	if err != nil {
		return fmt.Errorf("verify artifact: %w", err)
	}
	return checkWhole(n, sum, want)
}

func checkWhole(n int64, sum hash.Hash, want release.Artifact) error {
	if n > want.Size {
		return fmt.Errorf("%w: artifact: more than the %d bytes that it should have", release.ErrVerify, want.Size)
	}
	if n < want.Size {
		return fmt.Errorf("%w: artifact: %d bytes, want %d", release.ErrVerify, n, want.Size)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.SHA256 {
		return fmt.Errorf("%w: artifact: its SHA-256 is %s, want %s", release.ErrVerify, got, want.SHA256)
	}
	return nil
}

// Unpack reads a whole artifact of o.Want.Format from r into root, an empty directory that nothing uses yet. It is for
// a local file that VerifyFile has accepted (and for one without description): it does check size and digest of
// what it reads, but only at the end. On any error root holds rubbish, for the caller to delete. A refusal wraps
// release.ErrVerify; an error of r or of the disk does not.
func Unpack(ctx context.Context, root *os.Root, r io.Reader, o UnpackOptions) (Tree, error) {
	described := o.Want.SHA256 != ""
	in := &input{ctx: ctx, r: r, max: -1, sum: sha256.New(), progress: o.Progress}
	if described {
		in.max = o.Want.Size
	}
	buffered := bufio.NewReaderSize(in, 64<<10)
	stream := &tarStream{limit: streamLimit(o.limits())}
	switch o.Want.Format {
	case release.FormatGzip:
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return Tree{}, in.blame(err)
		}
		z.Multistream(false)
		stream.r = z
	case release.FormatZstd:
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(64<<20))
		if err != nil {
			return Tree{}, in.blame(err)
		}
		defer z.Close()
		stream.r = z
	default:
		return Tree{}, fmt.Errorf("%w: artifact: unknown format %q", release.ErrVerify, o.Want.Format)
	}
	if !described {
		// The decompressor reads ahead of what it gives out, so a ratio of the two can only be judged leniently.
		stream.over = func(out int64) bool { return out > plainRatio*(in.n+1024) }
	}
	tree, err := extract(ctx, root, stream, o)
	if err != nil {
		return Tree{}, in.blame(err)
	}
	if _, err := buffered.ReadByte(); err == nil {
		return Tree{}, fmt.Errorf("%w: artifact: bytes after the end of the compressed archive", release.ErrVerify)
	} else if err != io.EOF {
		return Tree{}, in.blame(err)
	}
	if described {
		if err := checkWhole(in.n, in.sum, o.Want); err != nil {
			return Tree{}, err
		}
	}
	return tree, nil
}

// limits are the entries and content bytes that may come out.
func (o UnpackOptions) limits() (bytes, entries int64) {
	bytes, entries = o.MaxBytes, MaxEntries
	if bytes <= 0 {
		bytes = 1 << 50
	}
	if o.Want.SHA256 != "" {
		bytes, entries = min(bytes, o.Want.UnpackedSize), min(entries, o.Want.Entries)
	}
	return bytes, entries
}

// streamLimit is the most that a tar stream of so many entries and bytes of content may take: headers, long names,
// padding, and the blocks at the end.
func streamLimit(bytes, entries int64) int64 { return bytes + entries*8192 + maxTail + 1024 }

// input is the artifact as it is read: counted, hashed, bounded, and remembering its own errors, so that a broken disk
// or connection is not taken for a bad archive.
type input struct {
	ctx      context.Context
	r        io.Reader
	n, max   int64 // max < 0 is no bound
	sum      hash.Hash
	progress func(int64)
	err      error // of r, not io.EOF
}

func (in *input) Read(p []byte) (int, error) {
	if err := in.ctx.Err(); err != nil {
		in.err = fmt.Errorf("unpack: %w", err)
		return 0, in.err
	}
	n, err := in.r.Read(p)
	in.n += int64(n)
	in.sum.Write(p[:n])
	if in.progress != nil {
		in.progress(in.n)
	}
	if in.max >= 0 && in.n > in.max {
		in.err = fmt.Errorf("%w: artifact: more than the %d bytes that it should have", release.ErrVerify, in.max)
		return 0, in.err
	}
	if err != nil && err != io.EOF {
		in.err = fmt.Errorf("unpack: read artifact: %w", err)
		err = in.err
	}
	return n, err
}

// blame says whose error err is: the input's own if it had one, else the archive's, which is a refusal unless extract
// has judged it already.
func (in *input) blame(err error) error {
	switch {
	case in.err != nil:
		return in.err
	case errors.Is(err, release.ErrVerify):
		return err
	}
	if d, ok := errors.AsType[diskError](err); ok {
		return d
	}
	return fmt.Errorf("%w: artifact: %w", release.ErrVerify, err)
}
