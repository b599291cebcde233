package artifact

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"sync"
	"syscall"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/towline/towline/internal/release"
)

// Pack writes the tree as an artifact to out, which should be empty and at its start, and says what it wrote; the Key
// is left empty. The bytes depend on the tree and the options alone. Memory is bounded whatever the tree's size: about
// 14 MiB for each of at most eight workers, and some 600 bytes an entry. A file that changes while it is packed is an error that
// names it. Errors that the tree or the options cause match ErrSource; a missing Dir matches fs.ErrNotExist too.
func Pack(ctx context.Context, out *os.File, o PackOptions) (release.Artifact, error) {
	return packCut(ctx, out, o, cuts.plan)
}

// packCut is Pack with the frames cut by plan.
func packCut(ctx context.Context, out *os.File, o PackOptions, plan func([]Entry) []frame) (release.Artifact, error) {
	a := release.Artifact{Format: cmp.Or(o.Format, release.FormatZstd)}
	if a.Format != release.FormatZstd && a.Format != release.FormatGzip {
		return release.Artifact{}, sourceError{fmt.Errorf("pack: unknown format %q", o.Format)}
	}
	root, entries, err := scan(ctx, o)
	if err != nil {
		return release.Artifact{}, err
	}
	defer root.Close()
	for _, e := range entries {
		a.UnpackedSize += e.Size
	}
	a.Entries = int64(len(entries))

	sum := sha256.New()
	p := packer{ctx: ctx, root: root, o: o, out: io.MultiWriter(out, sum), total: a.UnpackedSize}
	if a.Format == release.FormatGzip {
		if p.gzip, err = gzip.NewWriterLevel(&p, cmp.Or(o.Level, gzip.DefaultCompression)); err != nil {
			return release.Artifact{}, sourceError{fmt.Errorf("pack: %w", err)}
		}
	}
	if err := p.run(plan(entries)); err != nil {
		return release.Artifact{}, err
	}
	if p.gzip != nil {
		err = p.gzip.Close()
	} else {
		index := appendIndex(nil, p.frames)
		digest := sha256.Sum256(index)
		a.Index = &release.Index{Offset: p.size, Size: int64(len(index)), SHA256: hex.EncodeToString(digest[:])}
		_, err = p.Write(index)
	}
	if err != nil {
		return release.Artifact{}, err
	}
	a.Size, a.SHA256 = p.size, hex.EncodeToString(sum.Sum(nil))
	return a, nil
}

// packer puts the frames, which workers make side by side, into the artifact one after the other.
type packer struct {
	ctx    context.Context
	root   *os.Root
	o      PackOptions
	out    io.Writer
	gzip   *gzip.Writer // nil for tar+zstd
	frames []Frame
	size   int64 // written to out

	files, bytes, total int64 // progress
}

// Write counts what goes into the artifact.
func (p *packer) Write(b []byte) (int, error) {
	n, err := p.out.Write(b)
	p.size += int64(n)
	if err != nil {
		err = fmt.Errorf("pack: write artifact: %w", err)
	}
	return n, err
}

// packing is one frame under way. Its buffer is used again for a later frame.
type packing struct {
	frame frame
	made  Frame
	data  []byte // of the frame as it goes into the artifact; for tar+gzip the tar stream
	done  chan error
}

// run packs every frame: a worker for each core, eight at most, and two frames more under way than workers, so that one slow
// frame at the head of the queue does not leave a core idle. What is read takes a buffer for each worker, what was made one
// for each frame under way, as large as the largest frame.
func (p *packer) run(frames []frame) error {
	var most int64
	for _, f := range frames {
		most = max(most, f.bound())
	}
	count := min(runtime.GOMAXPROCS(0), 8, len(frames))
	if p.gzip == nil && p.level() == zstd.SpeedBestCompression {
		count = min(count, 3) // its tables take 32 MiB a worker
	}
	jobs := make(chan *packing, count+2)
	var working sync.WaitGroup
	defer working.Wait()
	defer close(jobs)
	for range count {
		w, err := p.newWorker(most)
		if err != nil {
			return err
		}
		working.Go(func() {
			defer w.dirs.close()
			for j := range jobs {
				j.done <- w.pack(j)
			}
		})
	}
	var idle, busy []*packing
	for range count + 2 {
		idle = append(idle, &packing{data: make([]byte, 0, frameBound(most)), done: make(chan error, 1)})
	}
	for len(frames) > 0 || len(busy) > 0 {
		if len(frames) > 0 && len(idle) > 0 {
			if err := p.ctx.Err(); err != nil {
				return fmt.Errorf("pack: %w", err)
			}
			j := idle[len(idle)-1]
			idle, busy = idle[:len(idle)-1], append(busy, j)
			j.frame, frames = frames[0], frames[1:]
			jobs <- j
			continue
		}
		j := busy[0]
		busy, idle = busy[1:], append(idle, j)
		if err := <-j.done; err != nil {
			return err
		}
		if err := p.put(j); err != nil {
			return err
		}
	}
	return nil
}

// put writes the frame that was made.
func (p *packer) put(j *packing) error {
	if p.gzip != nil {
		if _, err := p.gzip.Write(j.data); err != nil {
			return err
		}
	} else {
		j.made.Offset = p.size
		p.frames = append(p.frames, j.made)
		if _, err := p.Write(j.data); err != nil {
			return err
		}
	}
	for _, e := range j.frame.entries {
		switch {
		case !e.Mode.IsRegular():
		case j.frame.sliced:
			p.bytes += j.frame.to - j.frame.from
			if j.frame.to == e.Size {
				p.files++
			}
		default:
			p.files++
			p.bytes += e.Size
		}
	}
	if p.o.Progress != nil {
		p.o.Progress(p.files, p.bytes, p.total)
	}
	return nil
}

// worker makes one frame at a time and keeps its buffers.
type worker struct {
	dirs    dirs
	encoder *zstd.Encoder // nil for tar+gzip
	frame   frame
	tar     []byte
}

func (p *packer) level() zstd.EncoderLevel { return zstd.EncoderLevelFromZstd(cmp.Or(p.o.Level, 3)) }

// newWorker returns a worker for frames of at most so many bytes of content.
func (p *packer) newWorker(most int64) (*worker, error) {
	w := &worker{dirs: dirs{root: p.root}}
	if p.gzip != nil {
		return w, nil
	}
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(p.level()),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
		// No frame is larger than this by more than a few kilobytes of headers.
		zstd.WithWindowSize(cutLimit))
	if err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	w.encoder, w.tar = enc, make([]byte, 0, most)
	return w, nil
}

// pack makes the job's frame.
func (w *worker) pack(j *packing) error {
	w.frame = j.frame
	if w.encoder == nil { // what is made is the tar stream itself
		w.tar = j.data
	}
	w.tar = w.tar[:0]
	for _, e := range w.frame.entries {
		if err := w.add(e); err != nil {
			return err
		}
	}
	if len(w.frame.entries) == 0 {
		w.tar = append(w.tar, make([]byte, tarEnd)...)
	}
	if w.encoder == nil {
		j.data = w.tar
		return nil
	}
	j.data = w.encoder.EncodeAll(w.tar, j.data[:0])
	j.made = Frame{
		Size: int64(len(j.data)), UnpackedSize: int64(len(w.tar)),
		SHA256: sha256.Sum256(j.data), Content: sha256.Sum256(w.tar),
	}
	return nil
}

// add appends an entry, or the frame's slice of it, to the tar stream.
func (w *worker) add(e Entry) error {
	from, to := int64(0), e.Size
	if w.frame.sliced {
		from, to = w.frame.from, w.frame.to
	}
	if from == 0 {
		var err error
		if w.tar, err = appendHeader(w.tar, e); err != nil {
			return err
		}
	}
	if !e.Mode.IsRegular() {
		return nil
	}
	if e.extra {
		w.tar = append(w.tar, e.data[from:to]...)
	} else if err := w.read(e, from, to); err != nil {
		return err
	}
	if to == e.Size {
		w.tar = append(w.tar, make([]byte, roundUp(e.Size)-e.Size)...)
	}
	return nil
}

// read appends the bytes from..to of a file, and makes sure that it is as it was when it was scanned.
func (w *worker) read(e Entry, from, to int64) error {
	dir, err := w.dirs.at(path.Dir(e.Path))
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	// A pipe that was put there meanwhile must not hold the worker up.
	f, err := dir.OpenFile(path.Base(e.Path), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("pack %q: %w", e.Path, err)
	}
	defer f.Close()
	n := len(w.tar)
	w.tar = append(w.tar, make([]byte, to-from)...)
	_, readErr := f.ReadAt(w.tar[n:], from)
	info, err := f.Stat()
	switch {
	case err != nil:
		return fmt.Errorf("pack %q: %w", e.Path, err)
	case !info.Mode().IsRegular() || info.Size() != e.Size || !info.ModTime().Equal(e.mtime) || readErr == io.EOF:
		return unfit(e.Path, "the file changed while it was packed")
	case readErr != nil:
		return fmt.Errorf("pack %q: %w", e.Path, readErr)
	}
	return nil
}
