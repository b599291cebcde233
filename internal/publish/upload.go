package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime/debug"
	"time"

	"github.com/towline/towline/internal/release"
)

const jsonType = "application/json"

// pack writes the artifact into a temporary file. The caller closes and removes it.
func (r *run) pack(ctx context.Context) (file *os.File, a release.Artifact, err error) {
	r.phase("Pack")
	r.Log.Line(Plain, fmt.Sprintf("%s %s of %s", r.Options.App, short(r.Release.Hash), r.Release.Date))
	r.message(r.Release.Msg)
	if file, err = os.CreateTemp(r.Temp, "towline-artifact-"); err != nil {
		return nil, a, fmt.Errorf("pack: %w", err)
	}
	defer limitMemory()()
	started := time.Now()
	m := newMeter(r.Log, "packed", 0)
	defer m.end()
	if a, err = r.Pack(ctx, file, r.Release, m.at); err != nil {
		file.Close()
		os.Remove(file.Name())
		return nil, a, err
	}
	m.end()
	a.Key = release.ArtifactKey(r.Options.Prefix, r.Release.Hash, a.SHA256, a.Format)
	r.result.Artifact, r.result.Message = a, r.Release.Msg
	r.Log.Line(Plain, fmt.Sprintf("%s, %s, packed to %s in %s", Count(int64(a.Entries), "entry", "entries"), Bytes(a.UnpackedSize), Bytes(a.Size), Took(time.Since(started))))
	r.Log.Line(Faint, "sha256 "+a.SHA256)
	return file, a, nil
}

// packMemory is what packing may take of it, the program itself aside.
const packMemory = 160 << 20

// limitMemory has the collector work harder near the limit, until the function that it returns is called. Without, garbage may
// grow as large as all that is in use, and the buffers of many cores are. What the environment asks for goes first.
func limitMemory() (restore func()) {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return func() {}
	}
	debug.SetMemoryLimit(packMemory)
	return func() { debug.SetMemoryLimit(math.MaxInt64) }
}

// upload puts the artifact and then its release object into the bucket, each unless it is there, and gives the release
// object as it lies there.
func (r *run) upload(ctx context.Context, file *os.File, a release.Artifact) (release.Manifest, error) {
	r.phase("Upload")
	if err := r.uploadArtifact(ctx, file, a); err != nil {
		return release.Manifest{}, err
	}
	m := release.Manifest{Type: release.ManifestType, App: r.Options.App, Release: r.Release, Artifact: a, Run: r.Run, Created: stamp(time.Now())}
	data, err := release.SignManifest(m, r.Options.Keys...)
	if err != nil {
		return release.Manifest{}, err
	}
	key := release.ManifestKey(r.Options.Prefix, r.Release.Hash, a.SHA256)
	err = r.Bucket.Create(ctx, key, data, jsonType)
	if !errors.Is(err, fs.ErrExist) {
		return m, err
	}
	// Published before: the object stays as it is, if it is ours and speaks of these bytes.
	old, err := r.manifest(ctx, key)
	if errors.Is(err, release.ErrVerify) && r.foreign(ctx, m, key) {
		r.warn(key + " was signed by a key that is not trusted here, such as another environment's: it stays as it is, and our own pointer vouches for these bytes")
		return m, nil
	}
	if err != nil {
		return release.Manifest{}, err
	}
	if old.Artifact.SHA256 != a.SHA256 || old.Artifact.Size != a.Size || old.Release.Hash != m.Release.Hash {
		return release.Manifest{}, fmt.Errorf("%s: %w: it speaks of other bytes than these", key, release.ErrVerify)
	}
	return old, nil
}

// foreign reports whether nothing is wrong with the release object but who signed it: it speaks of the release that we
// have made ourselves. It is not built upon.
func (r *run) foreign(ctx context.Context, ours release.Manifest, key string) bool {
	data, _, err := r.Bucket.Get(ctx, key, maxObject)
	if err != nil {
		return false
	}
	there, err := release.NoTrust().Manifest(data, r.want)
	return err == nil && there.Release.Hash == ours.Release.Hash && there.Artifact.SHA256 == ours.Artifact.SHA256 && there.Artifact.Size == ours.Artifact.Size
}

func (r *run) uploadArtifact(ctx context.Context, file *os.File, a release.Artifact) error {
	size, err := r.Size(ctx, a.Key)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		// Without leave to list, what is absent looks forbidden.
		started := time.Now()
		m := newMeter(r.Log, "uploaded", a.Size)
		err = r.Bucket.Upload(ctx, a.Key, file, a.Size, contentType(a.Format), func(done int64) { m.at(done, a.Size) })
		m.end()
		if err == nil {
			r.result.Uploaded = a.Size
			r.Log.Line(Plain, fmt.Sprintf("%s: %s in %s", a.Key, Bytes(a.Size), Took(time.Since(started))))
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		size, err = r.Size(ctx, a.Key) // another run of the same commit was faster
	}
	if err != nil {
		return err
	}
	if size != a.Size {
		return otherSize(a, size)
	}
	r.Log.Line(Plain, a.Key+": nothing to upload, the bucket has the same bytes")
	return nil
}

// otherSize says that what lies at the artifact's key is not the artifact.
func otherSize(a release.Artifact, size int64) error {
	return fmt.Errorf("%s: %w: %d bytes lie there, want %d", a.Key, release.ErrVerify, size, a.Size)
}

// manifest reads and verifies one release object. What it says is signed again, by all of our keys, so that one of them
// alone must not be enough for it.
func (r *run) manifest(ctx context.Context, key string) (release.Manifest, error) {
	data, _, err := r.Bucket.Get(ctx, key, maxObject)
	if err != nil {
		return release.Manifest{}, err
	}
	m, err := r.Options.Vouch.Manifest(data, r.want)
	if err != nil {
		return release.Manifest{}, fmt.Errorf("%s: %w", key, err)
	}
	return m, nil
}

func contentType(format string) string {
	if format == release.FormatGzip {
		return "application/gzip"
	}
	return "application/zstd"
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
