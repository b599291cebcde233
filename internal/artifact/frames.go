package artifact

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/towline/towline/internal/release"
)

// fetchTries is how often in a row reading one frame may fail before UnpackFrames gives up.
const fetchTries = 4

// UnpackFrames reads the frames that x lists into root, an empty directory that nothing uses yet. open gives bytes of
// the artifact; it is asked for all frames in one range, and after a failed read for the rest, from the start of the frame
// that failed; what open itself refuses is not asked again. Each frame is read whole and checked before it is decompressed, and its content before it is parsed; so
// memory is bounded by the largest frames, a few at a time. On any error root holds rubbish, for the caller to
// delete. A refusal wraps release.ErrVerify; errors of open, of its readers and of the disk do not.
func UnpackFrames(ctx context.Context, root *os.Root, x Index, open func(ctx context.Context, offset, length int64) (io.ReadCloser, error), o UnpackOptions) (Tree, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return Tree{}, fmt.Errorf("unpack: %w", err)
	}
	defer decoder.Close()

	ctx, cancel := context.WithCancel(ctx)
	f := &frames{
		ctx: ctx, list: x.Frames, open: open, decoder: decoder, progress: o.Progress,
		full: make(chan []byte), empty: make(chan []byte, 2), stopped: make(chan struct{}),
	}
	f.empty <- nil
	f.empty <- nil
	go f.fill()
	defer func() {
		cancel()
		<-f.stopped
		f.closeBody()
	}()
	tree, err := extract(ctx, root, &tarStream{r: f, limit: streamLimit(o.limits())}, o)
	if err == nil {
		return tree, nil
	}
	if f.failed != nil {
		return Tree{}, f.failed
	}
	return Tree{}, (&input{}).blame(err)
}

// frames turns frames into the tar stream. One goroutine fetches, checks and decompresses the next frame while the
// reader's side works on the one before.
type frames struct {
	ctx      context.Context
	list     []Frame
	open     func(ctx context.Context, offset, length int64) (io.ReadCloser, error)
	decoder  *zstd.Decoder
	progress func(int64)

	body io.ReadCloser // the rest of the frames from the next one on; nil if not open
	stop func() bool   // of the context's hold on body

	full    chan []byte   // content of the frames, in order; closed at the end
	empty   chan []byte   // buffers to fill
	stopped chan struct{} // closed when fill has returned
	err     error         // why fill ended early; set before full is closed

	// of the reader's side
	current, rest []byte
	failed        error
}

func (f *frames) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		if f.current != nil {
			f.empty <- f.current[:0]
			f.current = nil
		}
		next, ok := <-f.full
		if !ok {
			if f.err != nil {
				f.failed = f.err
				return 0, f.err
			}
			return 0, io.EOF
		}
		f.current, f.rest = next, next
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// fill is the goroutine behind Read.
func (f *frames) fill() {
	defer close(f.stopped)
	defer close(f.full)
	var packed []byte
	for i := range f.list {
		var buf []byte
		select {
		case buf = <-f.empty:
		case <-f.ctx.Done():
			f.err = fmt.Errorf("unpack: %w", f.ctx.Err())
			return
		}
		if packed, f.err = f.fetch(i, packed); f.err != nil {
			return
		}
		if buf, f.err = f.decode(i, packed, buf); f.err != nil {
			return
		}
		select {
		case f.full <- buf:
		case <-f.ctx.Done():
			f.err = fmt.Errorf("unpack: %w", f.ctx.Err())
			return
		}
	}
}

// fetch reads frame i into buf and checks its digest.
func (f *frames) fetch(i int, buf []byte) ([]byte, error) {
	want := f.list[i]
	buf = grow(buf, want.Size)
	for try := 1; ; try++ {
		err := f.read(want, buf)
		if err == nil {
			break
		}
		opened := f.body != nil
		f.closeBody()
		if ctxErr := f.ctx.Err(); ctxErr != nil {
			return buf, fmt.Errorf("unpack: %w", ctxErr)
		}
		if !opened || try == fetchTries {
			return buf, fmt.Errorf("unpack: read frame %d of %d: %w", i+1, len(f.list), err)
		}
	}
	if f.progress != nil {
		f.progress(want.Offset + want.Size)
	}
	if sum := sha256.Sum256(buf); sum != want.SHA256 {
		return buf, fmt.Errorf("%w: frame %d of %d: its SHA-256 is %x, want %x", release.ErrVerify, i+1, len(f.list), sum, want.SHA256)
	}
	return buf, nil
}

// read fills buf from the body, which it opens at the frame if there is none.
func (f *frames) read(want Frame, buf []byte) error {
	if f.body == nil {
		last := f.list[len(f.list)-1]
		body, err := f.open(f.ctx, want.Offset, last.Offset+last.Size-want.Offset)
		if err != nil {
			return err
		}
		// A reader that does not know about the context is ended by closing it.
		f.body, f.stop = body, context.AfterFunc(f.ctx, func() { body.Close() })
	}
	_, err := io.ReadFull(f.body, buf)
	return err
}

func (f *frames) closeBody() {
	if f.body != nil {
		if f.stop() {
			f.body.Close()
		}
		f.body = nil
	}
}

// decode decompresses frame i into buf and checks the content's digest.
func (f *frames) decode(i int, packed, buf []byte) ([]byte, error) {
	want := f.list[i]
	buf, err := f.decoder.DecodeAll(packed, grow(buf, want.UnpackedSize)[:0:want.UnpackedSize])
	if err != nil {
		return nil, fmt.Errorf("%w: frame %d of %d: %w", release.ErrVerify, i+1, len(f.list), err)
	}
	if sum := sha256.Sum256(buf); int64(len(buf)) != want.UnpackedSize || sum != want.Content {
		return nil, fmt.Errorf("%w: frame %d of %d: its content is not what the index says", release.ErrVerify, i+1, len(f.list))
	}
	return buf, nil
}

// grow returns a buffer of n bytes, buf if it is large enough.
func grow(buf []byte, n int64) []byte {
	if int64(cap(buf)) < n {
		return make([]byte, n)
	}
	return buf[:n]
}
