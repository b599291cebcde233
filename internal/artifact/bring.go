package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/towline/towline/internal/release"
)

// Opener gives length bytes of the artifact from offset on; the caller closes what it returns. Several are open at once,
// and a read that fails is taken up with a new range from where it broke. An error of the Opener itself is final: it is
// not asked again. A reader that gives fewer bytes than asked for has failed; what it gives beyond is not read. What comes is checked, so
// an Opener need not be trusted; it should see to it that all answers are of the same object.
type Opener func(ctx context.Context, offset, length int64) (io.ReadCloser, error)

// Installed is a release on this disk that is believed sound.
type Installed struct {
	Root      *os.Root
	Inventory Inventory
}

// BringOptions says how Bring brings a release.
type BringOptions struct {
	// UnpackOptions: Progress is called with the bytes of frames fetched so far, out of those that Missing counts, by one
	// goroutine at a time; Warn likewise.
	UnpackOptions

	// Base is the release that root holds, to be brought forward; nil if root is empty. Its inventory must fit Skip.
	Base *Installed
	// Others are further releases on this disk, from which frames are copied that Base has not. They need not be sound: each
	// frame is checked against the index, and fetched if it is not what it should be.
	Others []Installed
	// Writers is how many goroutines write files; 0 is one on one processor, two on more.
	Writers int
	// Notes, if it is not nil, gets a note of each frame whose files are written, for Salvage: one Write for each, from several goroutines.
	// Its errors end nothing.
	Notes io.Writer
}

// ErrBase marks errors of Bring that a full unpack into an empty directory may not meet: root is not what the inventory of Base says, or
// the entries that the inventory names and those that were fetched break a rule together. Such a refusal wraps release.ErrVerify too, and a caller
// asks for ErrBase first: an inventory that lies must not speak against a release.
var ErrBase = errors.New("the installed release cannot be brought forward")

// Bring makes root the release whose frames x lists. Without Base, root is an empty directory that nothing uses yet, and
// everything is unpacked. With Base, root is its directory, which nothing uses any more, and is brought forward:
//   - frames whose content Base has cost no system call for a file;
//   - frames that one of Others has are copied from there;
//   - the rest is fetched, by ranges side by side, and of its entries what Base has already is left alone.
//
// A file that changes is a new file, never written in place; what is gone is removed, directories that become empty
// included; what lies at or below a path of Skip, and the directories above one, are left alone. Files written get o.Mtime, others keep theirs.
//
// Every frame is read whole and checked before it is decompressed, and its content before it is parsed. Memory is bounded by
// bytes in flight, whatever the frames. The rules are those of Unpack, over all entries, those of reused frames included, and the Tree is
// the one that a full unpack gives. On any error root holds rubbish, for the caller to delete. A refusal wraps
// release.ErrVerify; what a full unpack may not meet wraps ErrBase; errors of open, of its readers and of the disk wrap neither.
func Bring(ctx context.Context, root *os.Root, x Index, open Opener, o BringOptions) (Tree, error) {
	if o.Base == nil {
		if err := empty(root); err != nil {
			return Tree{}, (&input{}).blame(err)
		}
	} else if !o.Base.Inventory.Fits(o.Skip) {
		return Tree{}, fmt.Errorf("unpack: %w: other paths were shared", ErrBase)
	}
	if most := streamLimit(o.limits()); x.UnpackedSize() > most {
		return Tree{}, fmt.Errorf("%w: artifact: the tar stream is longer than %d bytes", release.ErrVerify, most)
	}
	s, err := newStage(root, o.UnpackOptions, min(x.UnpackedSize()/512, o.Want.Entries))
	if err != nil {
		return Tree{}, (&input{}).blame(err)
	}
	defer s.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tree, err := newBring(ctx, cancel, x, s, o).run(root, open)
	if cause := context.Cause(ctx); cause != nil {
		err = cause // what made the others stop, not that they did
	}
	if err == nil {
		return tree, nil
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Tree{}, fmt.Errorf("unpack: %w", err)
	}
	if f, ok := errors.AsType[fetchError](err); ok {
		return Tree{}, f.error
	}
	err = (&input{}).blame(err)
	if o.Base != nil && !errors.Is(err, ErrBase) && (misled(err) || errors.Is(err, release.ErrVerify)) {
		err = fmt.Errorf("%w: %w", ErrBase, err)
	}
	return Tree{}, err
}

// misled reports errors of a disk that has not what the inventory says.
func misled(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && slices.Contains([]syscall.Errno{syscall.ENOENT, syscall.EEXIST, syscall.ENOTDIR, syscall.EISDIR,
		syscall.ENOTEMPTY, syscall.ELOOP, syscall.EPERM}, errno)
}

// bring is one run of Bring. Frames that must be made pass through these hands, each in its order:
//
//	fetchers, by ranges side by side, read the packed bytes of a frame;
//	makers check and decompress them, or rebuild the content from another release;
//	the goroutine of Bring parses the content, applies the rules and makes directories;
//	writers write and hash the files of a frame.
type bring struct {
	ctx    context.Context
	cancel context.CancelCauseFunc // with what ends all
	stage  *stage
	o      BringOptions
	frames []Frame

	shelves []*shelf
	brought []held    // what each frame brought, to become the inventory
	nodes   [][]*node // of frames that were parsed
	slots   []*slot   // frames to make
	reused  int64
	copied  atomic.Int64

	fetch    fetcher
	contents *ring
	decoder  *zstd.Decoder
	next     sync.Mutex // of the makers
	taken    int        // slots that they have

	// of the goroutine that parses
	in    *tarStream
	data  []byte
	items []item
	file  *partial // a file that goes on in the next frame
	end   int      // the frame with the end of the archive, -1 while it was not met

	jobs    chan job
	pending sync.WaitGroup // jobs
	settler settler
}

// slot is a frame on its way.
type slot struct {
	i       int
	sources []source
	packed  []byte
	read    chan struct{} // closed when packed is there; nil if a source has the frame
	content *loan
	made    chan struct{} // closed when content is there
}

// partial is a file of which slices are still to come.
type partial struct {
	*node
	left  int64
	old   *node
	large *large        // nil if the file is left out
	done  chan struct{} // of the slice before; nil at first
}

// job is the files of a frame, and the content that they lie in.
type job struct {
	items []item
	loan  *loan
	note  []byte // to be given to Notes when they are written
}

func newBring(ctx context.Context, cancel context.CancelCauseFunc, x Index, s *stage, o BringOptions) *bring {
	return &bring{
		ctx: ctx, cancel: cancel, stage: s, o: o, frames: x.Frames, end: -1,
		brought: make([]held, len(x.Frames)), nodes: make([][]*node, len(x.Frames)),
		jobs: make(chan job, 64),
	}
}

// run does it all. The goroutines that it starts have ended when it returns.
func (b *bring) run(root *os.Root, open Opener) (Tree, error) {
	s := b.stage
	s.write, s.leave, s.flush, s.keep = b.write, b.leave, b.flush, true
	again := b.plan(root)
	defer func() {
		for _, r := range b.shelves {
			if r.site != nil {
				r.site.close()
			}
		}
	}()
	stop, err := b.start(open)
	if err == nil {
		err = b.reuse(again)
	}
	if err == nil {
		err = b.parseAll()
	}
	if err != nil {
		b.cancel(err)
	}
	stop()
	if err == nil {
		err = context.Cause(b.ctx)
	}
	if err != nil {
		return Tree{}, err
	}
	tree, err := s.finish()
	if err != nil {
		return Tree{}, err
	}
	tree.Inventory = b.inventory(tree.Digest)
	tree.Files, tree.Written = s.files, s.site.wrote.Load()
	tree.Pulled, tree.Reused, tree.Copied = b.fetch.pulled.Load(), b.reused, b.copied.Load()
	return tree, nil
}

// plan says of every frame whether Base has it (then which of Base's it is, else -1), or makes a slot for it.
func (b *bring) plan(root *os.Root) (again []int) {
	var base []held
	if b.o.Base != nil {
		base = b.o.Base.Inventory.frames
		b.shelve(Installed{root, b.o.Base.Inventory})
	}
	for _, other := range b.o.Others {
		b.shelve(other)
	}
	positions := make([]map[[32]byte]int, len(b.shelves))
	for k, r := range b.shelves {
		positions[k] = r.inventory.positions()
	}
	again = make([]int, len(b.frames))
	for i := 0; i < len(b.frames); {
		if base != nil {
			if at, ok := positions[0][b.frames[i].Content]; ok {
				if n := same(b.frames[i:], base[at:]); n > 0 {
					for range n {
						again[i] = at
						i, at = i+1, at+1
					}
					continue
				}
			}
		}
		t := &slot{i: i, made: make(chan struct{})}
		for k, r := range b.shelves {
			if at, ok := positions[k][b.frames[i].Content]; ok && r.site != nil && r.inventory.frames[at].size == b.frames[i].UnpackedSize {
				t.sources = append(t.sources, source{r, at})
			}
		}
		if t.sources == nil {
			t.read = make(chan struct{})
		}
		b.slots = append(b.slots, t)
		again[i] = -1
		i++
	}
	return again
}

// shelve makes a release ready to be copied from. One that cannot be opened has nothing to give.
func (b *bring) shelve(r Installed) {
	site, err := newSite(r.Root, time.Time{})
	if err != nil {
		site = nil
	}
	b.shelves = append(b.shelves, &shelf{r.Inventory, site})
}

// same is how many frames of Base can be reused together: one, or all slices of a file, or none.
func same(frames []Frame, base []held) int {
	fits := func(n int) bool {
		return n < len(frames) && base[n].content == frames[n].Content && base[n].size == frames[n].UnpackedSize
	}
	switch first := base[0]; {
	case !fits(0), first.bits&heldLater != 0, first.bits&heldEnd != 0 && len(frames) > 1:
		return 0
	case first.bits&heldSlice == 0:
		return 1
	}
	n := 1
	for ; n < len(base) && base[n].bits&heldLater != 0; n++ {
		if !fits(n) {
			return 0
		}
	}
	return n
}

// reuse adds what the frames that Base has brought, and notes what else stands in the directory.
func (b *bring) reuse(again []int) error {
	if b.o.Base == nil {
		return nil
	}
	s, base := b.stage, b.o.Base.Inventory.frames
	s.forward = true
	used := make([]bool, len(base))
	s.reusing = true
	for i, at := range again {
		if at < 0 {
			continue
		}
		used[at] = true
		b.brought[i], s.frame = base[at], i
		b.reused += b.frames[i].Size
		if base[at].bits&heldEnd != 0 {
			b.end = i
		}
		if err := base[at].each(func(n *node) error { return s.add(n, nil) }); err != nil {
			return lied(err)
		}
	}
	s.reusing, s.brought = false, nil
	for at, h := range base {
		if used[at] {
			continue
		}
		if err := h.each(func(n *node) error { s.stands(n); return nil }); err != nil {
			return lied(err)
		}
	}
	return nil
}

// lied is what an inventory deserves that cannot be read although it verifies.
func lied(err error) error {
	if errors.Is(err, errInventory) {
		return diskError{fmt.Errorf("%w: %w", ErrBase, err)}
	}
	return err
}

// inventory is that of the tree that was brought.
func (b *bring) inventory(digest string) Inventory {
	v := Inventory{tree: treeSum(digest), skips: b.stage.skips, frames: b.brought}
	for i, nodes := range b.nodes {
		h, before := &v.frames[i], ""
		for _, n := range nodes {
			h.entries = appendEntry(h.entries, n, before)
			before = n.name
		}
	}
	return v
}
