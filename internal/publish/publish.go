// Package publish is the CI half's order of events: pack, upload, promote, ping, wait; and the log that tells it.
//
// Parties: a person or a CI run hands in Options and the parts (a bucket, a packer, a way to ring servers); the engine
// writes an artifact and its release object, both once, then moves the environment's pointer, then waits until every
// server says that it is live and healthy on exactly that release.
//
// Invariants. Nothing is written before the inputs, the bucket and the present pointer have been found good. History is
// linear: each seq is created once and names the digest of the one before. A newer pointer is never overwritten by
// an older one, whatever the order of several publishers; whoever comes second ends superseded. What servers and
// commits wrote is untrusted: it is bounded and cleaned; lines of it go through Log.Quote,
// words of it may stand in lines of ours.
package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// Bucket is what a run needs of a bucket. Absent objects are fs.ErrNotExist, refused access is fs.ErrPermission, a
// failed condition is fs.ErrExist (or fs.ErrNotExist for Replace of what is gone).
type Bucket interface {
	Check(ctx context.Context) error
	Get(ctx context.Context, key string, limit int64) (data []byte, etag string, err error)
	Create(ctx context.Context, key string, data []byte, contentType string) error
	Replace(ctx context.Context, key string, data []byte, etag string) (newETag string, err error)
	Upload(ctx context.Context, key string, r io.ReaderAt, size int64, contentType string, progress func(done int64)) error
	List(ctx context.Context, prefix string) ([]string, error)
}

// Pinger rings one agent and calls on, one call at a time, with every event until the terminal one, for which it
// returns nil. It tries again by itself while that may help. An error that is errors.ErrUnsupported says that the ping was
// taken and no events will come.
type Pinger interface {
	Ping(ctx context.Context, url, pin string, body []byte, token string, on func(deployment.Event)) error
}

// File is one entry of what would be packed.
type File struct {
	Path string
	Size int64 // bytes; 0 for what is no regular file
}

// Parts are a run's options and everything that it works with.
type Parts struct {
	Options Options
	Release release.Release // what deploy and publish make; Hash is the version, Date RFC 3339
	Run     *release.Run    // of the CI; nil on a laptop

	Bucket Bucket
	// Size gives the size of an object in bytes, fs.ErrNotExist when it is absent.
	Size func(ctx context.Context, key string) (int64, error)
	// Pack writes the artifact to out; the Key stays empty. progress may be called with the bytes read so far, of how many.
	Pack func(ctx context.Context, out *os.File, r release.Release, progress func(done, total int64)) (release.Artifact, error)
	// Files lists what Pack would pack; only dry runs call it.
	Files func(ctx context.Context, r release.Release) ([]File, error)
	Ping  Pinger
	// Compare says how commit head stands to base: ahead, behind, identical or diverged. Nil: unknown.
	Compare func(ctx context.Context, base, head string) (string, error)
	// BeforeMove is called once, before anything of the pointer is written. Nil: nothing.
	BeforeMove func(ctx context.Context, r *Result)
	// Heard is called once, when the first server has answered. It must not block. Nil: nothing.
	Heard func(ctx context.Context, who string)

	Temp string // directory for the artifact while it is packed; empty: the system's
	Log  Log
}

// run is one run under way.
type run struct {
	Parts
	want   release.Want
	result *Result
	start  time.Time // of the run
	began  time.Time // of the phase now open
	loose  bool      // the store was seen to ignore create-only
	gone   uint64    // the highest seq whose publisher was waited for and did not move the pointer

	compared map[string]string // how commits stand to each other, by both hashes
}

// Run does what the options' command says. The result is never nil and holds what is known, also beside an error.
func Run(ctx context.Context, p Parts) (*Result, error) {
	o := p.Options
	r := &run{Parts: p, want: release.Want{App: o.App, Environment: o.Environment, Prefix: o.Prefix}, compared: map[string]string{}}
	r.result = &Result{Command: o.Command, App: o.App, Environment: o.Environment, Version: p.Release.Hash, URL: o.EnvironmentURL, DryRun: o.DryRun}
	r.start = time.Now()
	err := r.run(ctx)
	r.phase("")
	r.result.Took = time.Since(r.start)
	if err != nil {
		r.result.Outcome = deployment.Failed
		if errors.Is(ctx.Err(), context.Canceled) {
			r.result.Cancelled, r.result.Reason = true, r.cancelled()
		}
		r.result.Reason = cmp.Or(r.result.Reason, release.CleanText(err.Error(), 500))
	}
	return r.result, err
}

func (r *run) run(ctx context.Context) error {
	if err := r.Bucket.Check(ctx); err != nil {
		return err
	}
	switch r.Options.Command {
	case Deploy, Publish:
		return r.deploy(ctx)
	case Promote, Rollback:
		return r.promoteRelease(ctx)
	case Status:
		return r.status(ctx)
	}
	return fmt.Errorf("internal error: command %q", r.Options.Command)
}

// deploy packs and uploads a release; command deploy moves the pointer to it.
func (r *run) deploy(ctx context.Context) error {
	o := r.Options
	if err := release.CheckVersion(r.Release.Hash); err != nil {
		return &UsageError{[]Problem{{Input: "version", Text: err.Error()}}}
	}
	var at position
	if o.Command == Deploy {
		var err error
		if at, err = r.look(ctx); err != nil {
			return err
		}
		if err := r.mayUnsign(at); err != nil {
			return err
		}
		if r.behind(ctx, at) {
			return r.superseded(at.pointer)
		}
	}
	file, a, err := r.pack(ctx)
	if err != nil {
		return err
	}
	defer func() {
		file.Close()
		os.Remove(file.Name())
	}()
	if o.DryRun {
		return r.dryRun(ctx, at, release.Pointer{Kind: release.KindDeploy, Release: r.Release, Artifact: a})
	}
	m, err := r.upload(ctx, file, a)
	if err != nil {
		return err
	}
	if o.Command == Publish {
		r.result.Outcome, r.result.Reason = deployment.Published, "uploaded; the pointer was left alone"
		return nil
	}
	return r.move(ctx, release.Pointer{Kind: release.KindDeploy, Release: m.Release, Artifact: m.Artifact})
}

// promoteRelease moves the pointer to a release that is in the bucket already.
func (r *run) promoteRelease(ctx context.Context) error {
	r.phase("Find the release")
	at, err := r.look(ctx)
	if err != nil {
		return err
	}
	if err := r.mayUnsign(at); err != nil {
		return err
	}
	m, err := r.find(ctx, at)
	if err != nil {
		return err
	}
	size, err := r.Size(ctx, m.Artifact.Key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s: its artifact %s is gone", ErrUnknownRelease, m.Release.Hash, m.Artifact.Key)
	case err != nil:
		return err
	case size != m.Artifact.Size:
		return fmt.Errorf("%s: %w: %d bytes, its release object says %d", m.Artifact.Key, release.ErrVerify, size, m.Artifact.Size)
	}
	kind := release.KindPromote
	if r.Options.Command == Rollback {
		kind = release.KindRollback
	}
	r.result.Version, r.result.Message, r.result.Artifact = m.Release.Hash, m.Release.Msg, m.Artifact
	r.Log.Line(Plain, fmt.Sprintf("%s to %s of %s", strings.Replace(string(kind), "rollback", "roll back", 1), short(m.Release.Hash), m.Release.Date))
	r.message(m.Release.Msg)
	draft := release.Pointer{Kind: kind, Release: m.Release, Artifact: m.Artifact}
	if r.Options.DryRun {
		return r.dryRun(ctx, at, draft)
	}
	return r.move(ctx, draft)
}

// errUnsigns says that a pointer without signatures would follow one with.
var errUnsigns = errors.New("it is signed, and trust is none: no server and no publisher that asks for signatures would go on from an unsigned one")

// mayUnsign refuses to put a pointer without signatures over one that has some: by a slip, everything after it would stop.
func (r *run) mayUnsign(at position) error {
	if r.Options.DryRun || !r.Options.Trust.None() || !at.pointer.Signed() && !at.top.Signed() {
		return nil
	}
	return fmt.Errorf("%s: %w: %w", release.PointerKey(r.Options.Prefix, r.Options.Environment), release.ErrVerify, errUnsigns)
}

// move writes the pointer, rings the servers and waits for them.
func (r *run) move(ctx context.Context, draft release.Pointer) error {
	r.phase("Promote")
	if r.BeforeMove != nil {
		r.BeforeMove(ctx, r.result)
	}
	file, beaten, err := r.promote(ctx, draft)
	if err != nil {
		return err
	}
	if beaten.Valid() {
		return r.superseded(beaten)
	}
	r.result.Moved = true
	return r.follow(ctx, file)
}

// cancelled says how far a run came that was told to end.
func (r *run) cancelled() string {
	switch {
	case r.Options.Command == Status:
		return "cancelled"
	case r.result.Moved:
		return fmt.Sprintf("cancelled after the pointer was moved to seq %d: the servers follow it by themselves", r.result.Seq)
	case r.result.Seq > 0:
		return fmt.Sprintf("cancelled while the pointer was moved to seq %d: the next run says whether it was", r.result.Seq)
	}
	return "cancelled before the pointer was touched"
}

func (r *run) superseded(by release.Verified) error {
	p := by.Pointer()
	r.result.Outcome = deployment.Superseded
	r.result.Reason = fmt.Sprintf("seq %d, release %s, is newer", p.Seq, short(p.Release.Hash))
	if p.Run != nil && p.Run.URL != "" {
		r.result.Reason += ": " + p.Run.URL
	}
	r.result.Seq = 0
	r.Log.Line(Careful, "superseded: "+r.result.Reason)
	return nil
}

// phase opens a phase and books the time of the one before.
func (r *run) phase(name string) {
	now := time.Now()
	if n := len(r.result.Phases); n > 0 && !r.began.IsZero() {
		r.result.Phases[n-1].TookMS = now.Sub(r.began).Milliseconds()
	}
	r.Log.Phase(name)
	r.began = time.Time{}
	if name != "" {
		r.result.Phases = append(r.result.Phases, Phase{Name: name, StartMS: now.Sub(r.start).Milliseconds()})
		r.began = now
	}
}

// message prints a commit's message.
func (r *run) message(text string) {
	if text != "" {
		r.Log.Quote(Plain, "message", text)
	}
}

func (r *run) warn(text string) {
	r.result.Warnings = append(r.result.Warnings, text)
	r.Log.Warn(text)
}
