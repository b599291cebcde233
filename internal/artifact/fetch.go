package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// How the bytes that are missing are asked for.
const (
	fetchTries  = 4        // readings in a row that may break off without progress
	fetchMoves  = 64 << 10 // bytes that are progress
	fetchGap    = 8 << 10  // bytes that are read and dropped rather than asked around
	fetchSingle = 16 << 20 // bytes that one connection brings as fast as several
	fetchPiece  = 3 << 19  // size of a range, where several bring one stretch
	fetchers    = 6        // ranges at a time
	fetchBytes  = 4 << 20  // read and not yet decompressed
)

// fetcher reads frames of the artifact.
type fetcher struct {
	ctx      context.Context
	open     Opener
	frames   []Frame
	buffers  *buffers
	pulled   atomic.Int64
	mu       sync.Mutex // of progress
	read     int64      // bytes of frames
	progress func(int64)
}

// fetchError is an error of the Opener, of what it opened, or of the bytes that came.
type fetchError struct{ error }

func (e fetchError) Unwrap() error { return e.error }

// pieces cuts the frames that are wanted, in order, into ranges.
func pieces(frames []Frame, wanted []int) [][]int {
	var total int64
	for _, i := range wanted {
		total += frames[i].Size
	}
	var out [][]int
	begin := 0
	for k := 1; k <= len(wanted); k++ {
		if k < len(wanted) {
			last, next := frames[wanted[k-1]], frames[wanted[k]]
			long := total >= fetchSingle && last.Offset+last.Size-frames[wanted[begin]].Offset >= fetchPiece
			if !long && next.Offset-last.Offset-last.Size <= fetchGap {
				continue
			}
		}
		out = append(out, wanted[begin:k])
		begin = k
	}
	return out
}

// fetch reads the frames of one piece one after the other and gives each to take. It goes on where a reading has broken
// off, unless several in a row brought nothing.
func (f *fetcher) fetch(piece []int, take func(i int, packed []byte)) error {
	b := body{f: f, at: f.frames[piece[0]].Offset}
	last := f.frames[piece[len(piece)-1]]
	b.end = last.Offset + last.Size
	defer b.close()
	for _, i := range piece {
		buf := f.buffers.get(f.ctx, i, f.frames[i].Size)
		if buf == nil {
			return f.ctx.Err()
		}
		if err := b.frame(i, buf); err != nil {
			f.buffers.put(buf)
			return err
		}
		take(i, buf)
	}
	return nil
}

// one reads one frame on its own.
func (f *fetcher) one(i int, buf []byte) error {
	b := body{f: f, at: f.frames[i].Offset, end: f.frames[i].Offset + f.frames[i].Size}
	defer b.close()
	return b.frame(i, buf)
}

// body is a range of the artifact that is read from its begin to its end.
type body struct {
	f       *fetcher
	at, end int64
	r       io.ReadCloser // nil if not open
	stop    func() bool   // of the context's hold on r
	tries   int
	moved   int64 // bytes since a try was counted
}

// frame reads frame i into buf.
func (b *body) frame(i int, buf []byte) error {
	f := b.f
	want := f.frames[i]
	for b.at < want.Offset+want.Size {
		err := b.step(want.Offset, buf)
		if err == nil {
			continue
		}
		opened := b.r != nil
		b.close()
		if f.ctx.Err() != nil {
			return f.ctx.Err()
		}
		if b.moved >= fetchMoves {
			b.tries, b.moved = 0, 0
		}
		if b.tries++; !opened || b.tries == fetchTries {
			return fetchError{fmt.Errorf("unpack: read frame %d of %d: %w", i+1, len(f.frames), err)}
		}
	}
	b.tries, b.moved = 0, 0
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read += want.Size
	if f.progress != nil {
		f.progress(f.read)
	}
	return nil
}

// step reads what comes next: bytes before the frame at offset, which are dropped, or the rest of the frame.
func (b *body) step(offset int64, buf []byte) error {
	if b.r == nil {
		b.at = max(b.at, offset) // what was to be dropped need not be asked for
		r, err := b.f.open(b.f.ctx, b.at, b.end-b.at)
		if err != nil {
			return err
		}
		// A reader that does not know about the context is ended by closing it.
		b.r, b.stop = r, context.AfterFunc(b.f.ctx, func() { r.Close() })
	}
	into := buf[min(max(b.at-offset, 0), int64(len(buf))):]
	if gap := offset - b.at; gap > 0 {
		into = buf[:min(gap, int64(len(buf)))]
	}
	n, err := io.ReadFull(b.r, into)
	b.at += int64(n)
	b.moved += int64(n)
	b.f.pulled.Add(int64(n))
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (b *body) close() {
	if b.r != nil {
		if b.stop() {
			b.r.Close()
		}
		b.r = nil
	}
}
