package deploy

import (
	"context"
	"errors"
	"os"

	"github.com/towline/towline/internal/release"
)

// Frames brings releases frame by frame: what this server has already comes neither over the network nor, where a directory
// is recycled, onto the disk again.
type Frames interface {
	// Plan finds out what the artifact of p is made of. It is errors.ErrUnsupported where that can only be had whole, or where this
	// agent is too old to know.
	Plan(ctx context.Context, p release.Pointer) (Plan, error)
}

// Plan is what one artifact is made of. Release directories go by their digests here.
type Plan interface {
	// Fits reports whether enough is known of what the directory holds to bring it forward.
	Fits(digest string) bool
	// Lacks says how much would have to be fetched, and how much written onto the disk, with base, empty for none, and the
	// other directories, in bytes.
	Lacks(base string, others []string) (fetch, write int64)
	// TakeUp prepares a stage that an earlier Bring has not finished, of this artifact or another, so that it is the base Begun, and says
	// how many bytes of the artifact are in it. Nothing of it is believed, nor of the notes, which may be nil; base is the digest of the
	// directory that the stage was, empty for none. Where it is 0, the stage is of no use.
	TakeUp(ctx context.Context, stage *os.Root, notes *os.File, base string) (had int64, err error)
	// Bring makes stage the release. What the store or the way to it is to blame for is ErrBrokenOff. An error of Base, which an empty stage would not have, is ErrBase.
	Bring(ctx context.Context, stage *os.Root, b Bringing) (Brought, error)
	// Keep keeps what Fits asks about of the release that was just brought. What is lost of it costs an unpacking anew.
	Keep() error
	// Pulled is how many bytes came over the network so far, the reading of the index included.
	Pulled() int64
}

// Bringing is how a release is brought.
type Bringing struct {
	Base     string   // digest of the directory that the stage was; Begun for one that was taken up; empty for an empty stage
	Notes    *os.File // for TakeUp; may be nil
	Others   []Directory
	Warn     func(string)
	Progress func(fetched int64)
}

// Begun stands for the digest of a stage that was taken up.
const Begun = "begun"

// Directory is a release directory that frames may be copied from.
type Directory struct{ Name, Digest string }

// Brought is a release that was brought.
type Brought struct {
	Digest  string // what Integrity compares with
	Files   int64  // regular files of the release
	Written int64  // those that were written, of them
}

// ErrBrokenOff says that the store was away, or the way to it: what has come so far is good for another try.
var ErrBrokenOff = errors.New("the transfer broke off")

// ErrBase says that a directory to be brought forward is not as it should be.
var ErrBase = errors.New("the directory is not as it should be")
