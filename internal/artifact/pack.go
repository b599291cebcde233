package artifact

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/towline/towline/internal/release"
)

// Pack writes the tree as an artifact to out, which should be empty and at its start, and says what it wrote; the Key
// is left empty. The bytes depend on the tree and the options alone. Memory is bounded whatever the tree's size: about
// 16 MiB for each of at most ten workers, and some 300 bytes an entry. A file that changes while it is packed is an error that
// names it. Errors that the tree or the options cause match ErrSource; a missing Dir matches fs.ErrNotExist too.
func Pack(ctx context.Context, out *os.File, o PackOptions) (release.Artifact, error) {
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

// run packs every frame. Two workers more than cores, so that one slow frame at the head of the queue does not leave a
// core idle; eight cores at most, for memory.
func (p *packer) run(frames []frame) (err error) {
	var idle, busy []*worker
	for range min(runtime.GOMAXPROCS(0), 8) + 2 {
		w, err := p.newWorker()
		if err != nil {
			return err
		}
		idle = append(idle, w)
	}
	defer func() {
		for _, w := range busy {
			<-w.done
		}
		for _, w := range append(idle, busy...) {
			w.dirs.close()
		}
	}()
	for len(frames) > 0 || len(busy) > 0 {
		if len(frames) > 0 && len(idle) > 0 {
			if err := p.ctx.Err(); err != nil {
				return fmt.Errorf("pack: %w", err)
			}
			w := idle[len(idle)-1]
			idle, busy = idle[:len(idle)-1], append(busy, w)
			w.frame, frames = frames[0], frames[1:]
			go func() { w.done <- w.pack() }()
			continue
		}
		w := busy[0]
		busy, idle = busy[1:], append(idle, w)
		if err := <-w.done; err != nil {
			return err
		}
		if err := p.put(w); err != nil {
			return err
		}
	}
	return nil
}

// put writes the frame that w has made.
func (p *packer) put(w *worker) error {
	if p.gzip != nil {
		if _, err := p.gzip.Write(w.tar); err != nil {
			return err
		}
	} else {
		w.made.Offset = p.size
		p.frames = append(p.frames, w.made)
		if _, err := p.Write(w.zstd); err != nil {
			return err
		}
	}
	for _, e := range w.frame.entries {
		switch {
		case !e.Mode.IsRegular():
		case w.frame.sliced:
			p.bytes += w.frame.to - w.frame.from
			if w.frame.to == e.Size {
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
	zstd    []byte
	made    Frame
	done    chan error
}

func (p *packer) newWorker() (*worker, error) {
	w := &worker{dirs: dirs{root: p.root}, done: make(chan error, 1)}
	if p.gzip != nil {
		return w, nil
	}
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(cmp.Or(p.o.Level, 3))),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
		// No frame is larger than this by more than a few kilobytes of headers.
		zstd.WithWindowSize(cutLimit))
	if err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	w.encoder = enc
	return w, nil
}

// pack makes the worker's frame.
func (w *worker) pack() error {
	w.tar = w.tar[:0]
	for _, e := range w.frame.entries {
		if err := w.add(e); err != nil {
			return err
		}
	}
	if len(w.frame.entries) == 0 {
		w.tar = append(w.tar, make([]byte, 1024)...)
	}
	if w.encoder == nil {
		return nil
	}
	w.zstd = w.encoder.EncodeAll(w.tar, w.zstd[:0])
	w.made = Frame{
		Size: int64(len(w.zstd)), UnpackedSize: int64(len(w.tar)),
		SHA256: sha256.Sum256(w.zstd), Content: sha256.Sum256(w.tar),
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
		head, err := header(e)
		if err != nil {
			return err
		}
		w.tar = append(w.tar, head...)
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
	f, err := dir.Open(path.Base(e.Path))
	if err != nil {
		return fmt.Errorf("pack %q: %w", e.Path, err)
	}
	defer f.Close()
	n := len(w.tar)
	w.tar = append(w.tar, make([]byte, to-from)...)
	if _, err := f.ReadAt(w.tar[n:], from); err != nil && err != io.EOF {
		return fmt.Errorf("pack %q: %w", e.Path, err)
	} else if err == io.EOF {
		return unfit(e.Path, "the file became shorter while it was packed")
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("pack %q: %w", e.Path, err)
	}
	if !info.Mode().IsRegular() || info.Size() != e.Size || !info.ModTime().Equal(e.mtime) {
		return unfit(e.Path, "the file changed while it was packed")
	}
	return nil
}

// header is the tar header of e, PAX header included.
func header(e Entry) ([]byte, error) {
	h := tar.Header{Typeflag: tar.TypeReg, Name: e.Path, Size: e.Size, Mode: int64(e.Mode.Perm()), ModTime: epoch}
	switch e.Mode.Type() {
	case fs.ModeDir:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case fs.ModeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
	}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&h); err != nil {
		return nil, fmt.Errorf("pack %q: %w", e.Path, err)
	}
	// The writer leaves out of the header what is not ASCII, since a PAX record says it whole. Some readers take a link
	// whose header has no target at all for one without.
	if own := b.Len() - 512; e.Link != "" && b.Bytes()[own+157] == 0 {
		return withTarget(b.Bytes(), own), nil
	}
	return b.Bytes(), nil
}

// withTarget puts a stand-in for a link's target into the header at offset own, and its checksum right.
func withTarget(b []byte, own int) []byte {
	b[own+157] = '-'
	sum := 0
	for i, c := range b[own : own+512] {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int(c)
	}
	copy(b[own+148:own+156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}
