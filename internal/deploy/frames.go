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
	// Bring makes stage the release. An error of Base, which an empty stage would not have, is ErrBase.
	Bring(ctx context.Context, stage *os.Root, b Bringing) (Brought, error)
	// Keep keeps what Fits asks about of the release that was just brought. What is lost of it costs an unpacking anew.
	Keep() error
	// Pulled is how many bytes came over the network so far, the reading of the index included.
	Pulled() int64
}

// Bringing is how a release is brought.
type Bringing struct {
	Base     string // digest of the directory that the stage was; empty for an empty stage
	Others   []Directory
	Warn     func(string)
	Progress func(fetched int64)
}

// Directory is a release directory that frames may be copied from.
type Directory struct{ Name, Digest string }

// Brought is a release that was brought.
type Brought struct {
	Digest  string // what Integrity compares with
	Files   int64  // regular files of the release
	Written int64  // those that were written, of them
}

// ErrBase says that a directory to be brought forward is not as it should be.
var ErrBase = errors.New("the directory is not as it should be")
