package deploy

import (
	"context"
	"os"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// Source reads an app's pointer and artifacts. Objects that are absent are fs.ErrNotExist, ones that may not be read
// fs.ErrPermission; what fails verification wraps release.ErrVerify.
type Source interface {
	// Look reads and verifies the pointer; ErrNotModified when etag, which may be empty, is still current.
	Look(ctx context.Context, etag string) (Look, error)
	// Fetch writes the artifact of p to file from byte offset from on, which is what a broken download left there.
	Fetch(ctx context.Context, p release.Pointer, file *os.File, from int64, progress func(done int64)) error
	// Offers is nil if the artifact of p could be fetched now. No byte of it is read.
	Offers(ctx context.Context, p release.Pointer) error
	// History returns the newest verified pointer that had the version, or a prefix of it of 7 characters or more.
	// fs.ErrNotExist when there is none, ErrAmbiguous when several versions fit.
	History(ctx context.Context, version string) (release.Verified, error)
}

// Look is what a look at the pointer gave.
type Look struct {
	Pointer  release.Verified
	ETag     string
	Modified time.Time
}

// Tree is the app's directory on the server; package appdir has the contract.
type Tree interface {
	Path() string
	ReleasePath(name string) string
	Current() (string, error)
	Has(name string) bool
	Names() ([]string, error)
	Switch(name string) error
	Clear() error
	Stage() (name string, root *os.Root, err error)
	// Begin makes a stage that Resume finds, in a later process too, until it is sealed or discarded. There is one at most.
	Begin() (stage string, root *os.Root, err error)
	// Recycle makes such a stage of the directory of a release.
	Recycle(name string) (stage string, root *os.Root, err error)
	// Resume takes up the stage that was left, as it is; fs.ErrNotExist when there is none.
	Resume() (stage string, root *os.Root, err error)
	// Notes opens the notes about a stage, which go with it.
	Notes(stage string) (*os.File, error)
	// Leave lets go of a stage that is for Resume.
	Leave(stage string)
	// DiscardBegun deletes that stage.
	DiscardBegun() error
	Seal(stage, name string, shared []string) (deployment.Sealed, error)
	// Moment is now, as Integrity takes it; empty where it cannot be told.
	Moment() string
	Discard(stage string) error
	Remove(name string) error
	// Sweep deletes releases that keep does not want, and stages, the one for Resume excepted if there is to be one.
	Sweep(keep func(name string) bool, resume bool) error
	Incoming(name string) (f *os.File, have int64, err error)
	ClearIncoming() error
	Space() (bytes, inodes int64, err error)
}

// Service restarts and watches what the app runs as.
type Service interface {
	// Check reports why the service could not be restarted, before anything is changed; nil if it could.
	Check(ctx context.Context) error
	Restart(ctx context.Context) error
	Stop(ctx context.Context) error
	State(ctx context.Context) (deployment.UnitState, error)
	// Log returns the last n lines that the service wrote since it was started last.
	Log(ctx context.Context, n int) ([]string, error)
	// GoingDown reports whether the machine is being shut down, as far as that is known.
	GoingDown(ctx context.Context) bool
	// StartedFrom is the release directory that the running main process was started from, "" when that is unknown.
	StartedFrom(ctx context.Context) (string, error)
}

// Checker is the health gate: nil once the release with this hash has proven healthy. before is the state of the unit
// before it was restarted; report gets a line whenever something changes. An error says why it is not healthy.
type Checker func(ctx context.Context, before deployment.UnitState, hash string, report func(string)) error

// Alive is nil if the app, as it runs now, is well: its unit is active and its probe answers for the release with this hash.
type Alive func(ctx context.Context, hash string) error

// Hooks are the configured hooks by name: before-activate, after-healthy. Each runs in the release directory and returns
// its output.
type Hooks map[string]func(ctx context.Context, dir string) ([]string, error)

// Unpacker unpacks a whole verified archive into the stage, but for what is shared. digest is what Integrity compares with.
type Unpacker func(ctx context.Context, archive *os.File, stage *os.Root, p release.Pointer, warn func(string), progress func(int64)) (digest string, err error)

// Journal keeps the engine's state and the finished deployments; package journal has the contract.
type Journal interface {
	Load() ([]byte, error)
	Save(state []byte) error
	Add(deployment.Record) error
	Records(n int) ([]deployment.Record, error)
}
