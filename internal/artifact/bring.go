package artifact

import (
	"context"
	"errors"
	"io"
	"os"
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
}

// ErrBase marks errors of Bring whose cause is that root is not what the inventory of Base says. A full unpack into an empty
// directory would not meet them.
var ErrBase = errors.New("the directory to bring forward is not what its inventory says")

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
// release.ErrVerify; one that a full unpack may not meet wraps ErrBase; errors of open, of its readers and of the disk wrap neither.
func Bring(ctx context.Context, root *os.Root, x Index, open Opener, o BringOptions) (Tree, error) {
	if o.Base != nil {
		return Tree{}, ErrBase
	}
	return UnpackFrames(ctx, root, x, open, o.UnpackOptions)
}

// Missing counts the frames of x that none of the inventories has, and their bytes in the artifact: what Bring has to
// fetch, if all that is installed is sound.
func Missing(x Index, have ...Inventory) (frames int, bytes int64) {
	for _, f := range x.Frames {
		frames, bytes = frames+1, bytes+f.Size
	}
	return frames, bytes
}
