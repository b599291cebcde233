package artifact

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"sync"

	"github.com/towline/towline/internal/release"
)

// contentBytes bounds the content of frames that is made and not yet written.
const contentBytes = 6 << 20

// copiers is how many frames are copied from other releases at a time: where files have to be read from a disk, each waits for it.
const copiers = 8

// start starts the goroutines that make frames and write files. stop ends them: after an error at once, else when the
// last file is written.
func (b *bring) start(open Opener) (stop func(), err error) {
	if len(b.slots) == 0 {
		return func() {}, nil
	}
	if err := b.stage.site.learn(); err != nil {
		return func() {}, err
	}
	b.fetch.ctx, b.fetch.open, b.fetch.frames, b.fetch.progress = b.ctx, open, b.frames, b.o.Progress
	b.fetch.buffers = newBuffers(fetchBytes)
	var all, most int64
	for _, t := range b.slots {
		all, most = all+b.frames[t.i].UnpackedSize, max(most, b.frames[t.i].UnpackedSize)
	}
	b.contents = newRing(max(most, min(all, contentBytes)))
	cores := runtime.GOMAXPROCS(0)
	makers, decoders, writers := min(cores, 4), min(cores, 4), b.o.Writers
	if slices.ContainsFunc(b.slots, func(t *slot) bool { return t.sources != nil }) {
		makers = copiers
	}
	if writers <= 0 {
		writers = min(cores, 2)
	}
	makers, writers = min(makers, len(b.slots)), min(writers, len(b.slots))
	if b.decoder, err = newDecoder(decoders); err != nil {
		return func() {}, diskError{fmt.Errorf("unpack: %w", err)}
	}
	asleep := context.AfterFunc(b.ctx, func() {
		b.contents.wake()
		b.fetch.buffers.wake()
	})
	var wg sync.WaitGroup
	b.startFetchers(&wg)
	for range makers {
		wg.Go(b.makeFrames)
	}
	b.settler.start(b.stage.site, b.cancel)
	var writing sync.WaitGroup
	for range writers {
		writing.Go(b.writeFiles)
	}
	return func() {
		close(b.jobs)
		writing.Wait()
		b.settler.stop()
		wg.Wait()
		asleep()
		b.decoder.Close()
		if b.file != nil && b.file.large != nil {
			b.file.large.abandon()
		}
	}, nil
}

// startFetchers has the frames read that no release has, by a few ranges at a time, in order.
func (b *bring) startFetchers(wg *sync.WaitGroup) {
	at := map[int]*slot{}
	var wanted []int
	for _, t := range b.slots {
		if t.read != nil {
			at[t.i], wanted = t, append(wanted, t.i)
		}
	}
	if len(wanted) == 0 {
		return
	}
	list := pieces(b.frames, wanted)
	queue := make(chan []int, len(list))
	for _, p := range list {
		queue <- p
	}
	close(queue)
	for range min(fetchers, len(list)) {
		wg.Go(func() {
			for p := range queue {
				if b.ctx.Err() != nil {
					return
				}
				err := b.fetch.fetch(p, func(i int, packed []byte) {
					at[i].packed = packed
					close(at[i].read)
				})
				if err != nil {
					b.cancel(err)
					return
				}
			}
		})
	}
}

// makeFrames makes the content of one frame after the other.
func (b *bring) makeFrames() {
	for {
		t := b.nextSlot()
		if t == nil {
			return
		}
		if err := b.makeFrame(t); err != nil {
			b.cancel(err)
			return
		}
		close(t.made)
	}
}

// nextSlot gives the next frame with a buffer for its content.
func (b *bring) nextSlot() *slot {
	b.next.Lock()
	defer b.next.Unlock()
	if b.taken == len(b.slots) {
		return nil
	}
	t := b.slots[b.taken]
	if t.content = b.contents.get(b.ctx, b.frames[t.i].UnpackedSize); t.content == nil {
		return nil
	}
	b.taken++
	b.fetch.buffers.hasten(t.i + 1)
	return t
}

func (b *bring) makeFrame(t *slot) error {
	for _, s := range t.sources {
		if s.rebuild(t.content.b, b.frames[t.i].Content) {
			b.copied.Add(b.frames[t.i].Size)
			return nil
		}
	}
	if t.read == nil {
		t.packed = b.fetch.buffers.get(b.ctx, t.i, b.frames[t.i].Size)
		if t.packed == nil {
			return b.ctx.Err()
		}
		if err := b.fetch.one(t.i, t.packed); err != nil {
			return err
		}
	} else {
		select {
		case <-t.read:
		case <-b.ctx.Done():
			return b.ctx.Err()
		}
	}
	defer b.fetch.buffers.put(t.packed)
	if err := decode(b.decoder, t.i, b.frames, t.packed, t.content.b); err != nil {
		return fetchError{err} // of what came, whatever is installed
	}
	return nil
}

// parseAll parses the frames in order as they are made, and hands their files on.
func (b *bring) parseAll() error {
	k := 0
	for i := range b.frames {
		if k == len(b.slots) || b.slots[k].i != i {
			if b.file != nil {
				return b.uneven(i)
			}
			continue
		}
		t := b.slots[k]
		k++
		select {
		case <-t.made:
		case <-b.ctx.Done():
			return b.ctx.Err()
		}
		if err := b.parse(i, t.content.b); err != nil {
			return err
		}
		b.send(t.content, b.note(i))
		t.content, t.packed = nil, nil
	}
	if b.file != nil || b.end < 0 {
		return errCutOff
	}
	for i := b.end + 1; i < len(b.frames); i++ {
		if b.brought[i].bits&(heldEnd|heldLoose) == 0 {
			return fmt.Errorf("%w: artifact: %w", release.ErrVerify, errTail)
		}
	}
	return nil
}

// send gives the frame's files to a writer, and the content that they lie in, if it is no longer needed here.
func (b *bring) send(content *loan, note []byte) {
	b.pending.Add(1)
	b.jobs <- job{b.items, content, note}
	b.items = nil
}

// flush waits until all files are written that were handed on.
func (b *bring) flush() error {
	b.send(nil, nil)
	b.pending.Wait()
	return context.Cause(b.ctx)
}

func (b *bring) uneven(i int) error {
	return fmt.Errorf("%w: artifact: frame %d of %d does not hold whole entries, or a slice of a file", release.ErrVerify, i+1, len(b.frames))
}

// parse parses one frame.
func (b *bring) parse(i int, data []byte) error {
	s, h := b.stage, &b.brought[i]
	h.content, h.size = b.frames[i].Content, int64(len(data))
	switch {
	case b.file != nil:
		h.bits = heldSlice | heldLater
		h.part = min(b.file.left, int64(len(data)))
		return b.slice(i, data)
	case b.end >= 0 && i > b.end:
		h.bits = heldLoose
		return (&tarStream{r: bytes.NewReader(data), limit: maxTail}).tail()
	}
	r := bytes.NewReader(data)
	b.in, b.data, s.frame = &tarStream{r: r, limit: math.MaxInt64}, data, i
	dots := s.dots
	ended, err := s.parse(b.ctx, b.in, tar.NewReader(seekable{b.in, r}))
	nodes := s.brought
	s.brought, b.nodes[i] = nil, nodes
	for _, n := range nodes {
		if n.hard {
			h.bits |= heldLoose
		}
	}
	if s.dots > dots {
		h.bits |= heldDot
	}
	switch {
	case errors.Is(err, errSliced):
		if len(nodes) != 1 || s.dots > dots {
			return b.uneven(i)
		}
		h.bits |= heldSlice
		h.part = min(b.file.left, int64(len(data))-b.in.n)
		return b.slice(i, data[b.in.n:])
	case err != nil:
		return err
	case ended:
		b.end = i
		h.bits |= heldEnd
		if len(nodes) > 0 || len(data) < 1024 {
			h.bits |= heldLoose
		}
		return b.in.tail()
	case b.in.headers.at != b.in.n || len(b.in.headers.block) > 0:
		return b.uneven(i)
	}
	return nil
}

// seekable lets the parser pass over content.
type seekable struct {
	*tarStream
	r *bytes.Reader
}

func (s seekable) Seek(offset int64, whence int) (int64, error) {
	at, err := s.r.Seek(offset, whence)
	if err == nil {
		s.n = at
	}
	return at, err
}

// write is the stage's: it puts a file whose content lies in the frame aside for a writer.
func (b *bring) write(n *node, content io.Reader) error {
	old := b.stage.old[n.name]
	if old != nil && old.mode.IsDir() {
		old = nil // it was cleared
	}
	if n.hard {
		if old != nil {
			if err := b.stage.clear(old); err != nil {
				return err
			}
		}
		return b.stage.hand.stream(n, content)
	}
	rest := b.data[b.in.n:]
	if n.size > int64(len(rest)) {
		b.file = &partial{node: n, left: n.size, old: old, large: &large{name: n.name, sum: sha256.New()}}
		if old != nil {
			b.file.large.name = fmt.Sprint(probe, b.stage.frame)
		}
		return errSliced
	}
	b.items = append(b.items, item{node: n, content: rest[:n.size], old: old})
	return nil
}

// leave is the stage's: a file is left out, but its slices must be known for what they are.
func (b *bring) leave(n *node, _ io.Reader) error {
	if !n.hard && n.size > int64(len(b.data))-b.in.n {
		b.file = &partial{node: n, left: n.size}
		return errSliced
	}
	return nil
}

// slice puts the next slice of the file aside. It fills its frame, but for the padding behind the last.
func (b *bring) slice(i int, data []byte) error {
	f := b.file
	n := min(f.left, int64(len(data)))
	f.left -= n
	rest := int64(len(data)) - n
	if f.left > 0 && rest > 0 || f.left == 0 && rest != padded(f.size)-f.size {
		return b.uneven(i)
	}
	if f.large != nil {
		it := item{node: f.node, content: data[:n], old: f.old, large: f.large, last: f.left == 0, after: f.done, done: make(chan struct{})}
		b.items, f.done = append(b.items, it), it.done
	}
	if f.left == 0 {
		b.file = nil
	}
	return nil
}

// writeFiles writes the files of one frame after the other. After an error it only gives buffers back.
func (b *bring) writeFiles() {
	w := newWriter(b.stage.site)
	defer w.close()
	for j := range b.jobs {
		for _, i := range j.items {
			if i.after != nil {
				<-i.after // a writer has it: they are handed out in order
			}
			if b.ctx.Err() == nil {
				if err := w.write(i); err != nil {
					b.cancel(err)
				}
				b.settler.wrote(int64(len(i.content)))
			}
			if i.done != nil {
				if b.ctx.Err() != nil {
					i.large.abandon()
				}
				close(i.done)
			}
		}
		b.contents.put(j.loan)
		if j.note != nil && b.ctx.Err() == nil {
			_, _ = b.o.Notes.Write(j.note)
		}
		b.pending.Done()
	}
}
