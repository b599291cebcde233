// Package source is a bucket as the engine sees it: one app's pointer, history and artifacts, verified.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/release"
)

const (
	maxPointer = 4 * release.MaxEnvelope // bytes read of a pointer; release has the tighter cap, and the refusal for it
	maxResumes = 5                       // of one download, in a row with hardly a byte in between
	minGain    = 32 << 10                // bytes that count; the bucket lets a body that drips go on for half a minute, at a KiB a second
	maxHistory = 1000                    // pointers read in the search for a version
	minPrefix  = 7                       // characters that may stand for a version

	reserve = 64 << 20 // bytes left free where nothing says how large an artifact is
)

// Source is an app's pointer, history and artifacts. It implements deploy.Source.
type Source struct {
	bucket   bucket.Bucket
	trust    release.Trust
	want     release.Want
	pointer  string // object key
	artifact string // of a plain pointer, relative to pointer; {hash} stands for the hash
	space    func() (bytes, inodes int64, err error)

	looks  atomic.Int64
	errors atomic.Int64
}

// New returns the source of the app in b. space tells the free bytes of the disk that artifacts are fetched to.
func New(b bucket.Bucket, c config.App, space func() (bytes, inodes int64, err error)) *Source {
	return &Source{
		space:  space,
		bucket: b, trust: c.Trust, pointer: c.Pointer, artifact: c.Artifact,
		want: release.Want{App: c.App, Environment: c.Environment, Prefix: c.Prefix, Agent: release.Version},
	}
}

// Looks counts the looks that came to an end.
func (s *Source) Looks() int64 { return s.looks.Load() }

// Errors counts the looks that failed for a reason that is no normal state of a bucket.
func (s *Source) Errors() int64 { return s.errors.Load() }

// Look implements deploy.Source. The ETag is given out only with a pointer that was verified.
func (s *Source) Look(ctx context.Context, etag string) (deploy.Look, error) {
	defer s.looks.Add(1)
	data, info, err := s.bucket.GetIfChanged(ctx, s.pointer, etag, maxPointer)
	switch {
	case errors.Is(err, bucket.ErrNotModified):
		return deploy.Look{}, deploy.ErrNotModified
	case err != nil:
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && ctx.Err() == nil {
			s.errors.Add(1)
		}
		return deploy.Look{}, err
	}
	v, err := s.trust.Pointer(data, s.want)
	if err != nil {
		s.errors.Add(1)
		return deploy.Look{}, fmt.Errorf("%s: %w", s.pointer, err)
	}
	return deploy.Look{Pointer: v, ETag: info.ETag, Modified: info.Modified}, nil
}

// key is where the artifact of p lies.
func (s *Source) key(p release.Pointer) string {
	if p.Artifact.Key != "" {
		return p.Artifact.Key
	}
	return path.Join(path.Dir(s.pointer), strings.ReplaceAll(s.artifact, "{hash}", p.Release.Hash))
}

// Fetch implements deploy.Source. A download that breaks off is taken up at the byte that is missing, as long as the
// object stays the same; in the end the whole file is verified, unless the pointer is a plain one, which says nothing
// of its artifact.
func (s *Source) Fetch(ctx context.Context, p release.Pointer, file *os.File, from int64, progress func(done int64)) error {
	key, signed := s.key(p), p.Artifact.SHA256 != ""
	have, etag, idle := from, "", 0
	for {
		if signed && have >= p.Artifact.Size {
			break
		}
		got, info, err := s.part(ctx, key, etag, p.Artifact.Size, file, have, progress)
		have += got
		if err == nil {
			break
		}
		switch {
		case ctx.Err() != nil:
			return err
		case errors.Is(err, fs.ErrExist) && etag != "":
			return fmt.Errorf("get object %s: it changed during the download: %w", key, release.ErrVerify)
		case !errors.Is(err, bucket.ErrUnreachable), errors.As(err, new(unopened)):
			return err
		case got < minGain:
			if idle++; idle >= maxResumes {
				return err
			}
		default:
			idle = 0
		}
		if etag == "" {
			etag = info.ETag
		}
	}
	if !signed {
		return nil
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("verify artifact: %w", err)
	}
	return artifact.VerifyFile(file, p.Artifact)
}

// Offers implements deploy.Source.
func (s *Source) Offers(ctx context.Context, p release.Pointer) error {
	info, err := s.bucket.Stat(ctx, s.key(p))
	if err == nil && p.Artifact.SHA256 != "" && info.Size != p.Artifact.Size {
		err = fmt.Errorf("object %s: %w: it has %d bytes, the pointer says %d", s.key(p), release.ErrVerify, info.Size, p.Artifact.Size)
	}
	return err
}

// part downloads from byte have on, as far as it gets. size is what the artifact should have, 0 when nobody knows.
func (s *Source) part(ctx context.Context, key, etag string, size int64, file *os.File, have int64, progress func(int64)) (got int64, info bucket.Info, err error) {
	body, info, err := s.bucket.Open(ctx, key, have, -1, etag)
	if err != nil {
		return 0, info, unopened{err}
	}
	defer body.Close()
	most := size
	if size <= 0 {
		if most, _, err = s.space(); err != nil {
			return 0, info, err
		}
		if most -= reserve; info.Size > most {
			return 0, info, fmt.Errorf("not enough space for %s: %d MiB free, %d MiB needed", key, (most+reserve)>>20, (info.Size+reserve)>>20)
		}
	} else if info.Size != size {
		return 0, info, fmt.Errorf("get object %s: %w: it has %d bytes, the pointer says %d", key, release.ErrVerify, info.Size, size)
	}
	out := &counted{w: io.NewOffsetWriter(file, have), have: have, progress: progress}
	// One byte too many is enough to see that it is too long.
	got, err = io.Copy(out, io.LimitReader(body, most-have+1))
	if err != nil {
		return got, info, fmt.Errorf("fetch %s: %w", key, err)
	}
	return got, info, nil
}

// unopened is a transfer that did not begin. The bucket has tried that a few times already, and nobody does so on top of it.
type unopened struct{ error }

func (u unopened) Unwrap() error { return u.error }

// counted tells how far a download has come.
type counted struct {
	w        io.Writer
	have     int64
	progress func(int64)
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.have += int64(n)
	c.progress(c.have)
	return n, err
}

// unknown is the error for a version that the history does not have; it is fs.ErrNotExist.
type unknown string

func (u unknown) Error() string {
	return fmt.Sprintf("no release %s on this server or in the history", string(u))
}
func (u unknown) Is(target error) bool { return target == fs.ErrNotExist }

// History implements deploy.Source. Entries that do not verify are passed over: they can neither help nor harm.
func (s *Source) History(ctx context.Context, version string) (release.Verified, error) {
	none := unknown(release.CleanText(version, 64))
	if release.CheckVersion(version) != nil {
		return release.Verified{}, none
	}
	version, err := s.whole(ctx, version)
	if err != nil {
		return release.Verified{}, err
	}
	keys, err := s.history(ctx)
	if err != nil {
		return release.Verified{}, err
	}
	newest := map[string]release.Verified{}
	for _, key := range keys {
		data, _, err := s.bucket.Get(ctx, key, release.MaxEnvelope)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return release.Verified{}, err
		}
		v, err := s.trust.Pointer(data, s.want)
		if err != nil || v.Plain() || release.HistoryKey(s.want.Prefix, s.want.Environment, v.Pointer().Seq) != key {
			continue
		}
		hash := v.Pointer().Release.Hash
		if hash == version {
			return v, nil
		}
		if _, seen := newest[hash]; !seen && len(version) >= minPrefix && strings.HasPrefix(hash, version) {
			newest[hash] = v
		}
	}
	var fits []string
	for hash := range newest {
		fits = append(fits, hash)
	}
	switch len(fits) {
	case 0:
		return release.Verified{}, none
	case 1:
		return newest[fits[0]], nil
	}
	return release.Verified{}, ambiguous(version, fits)
}

// whole completes a prefix of a version by the names of the artifacts, where those may be listed: that is one call
// instead of one for each pointer.
func (s *Source) whole(ctx context.Context, version string) (string, error) {
	keys, err := s.bucket.List(ctx, release.ReleasesPrefix(s.want.Prefix))
	if errors.Is(err, fs.ErrPermission) || len(keys) == 0 {
		return version, nil
	}
	if err != nil {
		return "", err
	}
	var fits []string
	for _, key := range keys {
		known, _, ok := release.ParseManifestKey(s.want.Prefix, key)
		switch {
		case !ok:
		case known == version:
			return version, nil
		case len(version) >= minPrefix && strings.HasPrefix(known, version) && !slices.Contains(fits, known):
			fits = append(fits, known)
		}
	}
	switch len(fits) {
	case 0:
		return version, nil
	case 1:
		return fits[0], nil
	}
	return "", ambiguous(version, fits)
}

func ambiguous(version string, fits []string) error {
	slices.Sort(fits)
	return fmt.Errorf("release %s: %w: %s", version, deploy.ErrAmbiguous, strings.Join(fits, ", "))
}

// history lists the keys of the newest pointers, newest first. Where listing is denied they are counted down from the
// pointer.
func (s *Source) history(ctx context.Context) ([]string, error) {
	keys, err := s.bucket.List(ctx, release.HistoryPrefix(s.want.Prefix, s.want.Environment))
	if err == nil {
		slices.Sort(keys)
		slices.Reverse(keys)
		return keys[:min(len(keys), maxHistory)], nil
	}
	if !errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	look, err := s.Look(ctx, "")
	if err != nil {
		return nil, err
	}
	for seq := look.Pointer.Pointer().Seq; seq > 0 && len(keys) < maxHistory; seq-- {
		keys = append(keys, release.HistoryKey(s.want.Prefix, s.want.Environment, seq))
	}
	return keys, nil
}
