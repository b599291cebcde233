// Package bucket keeps objects: on any S3 store, or in a plain directory that answers in the same way.
//
// Parties: publishers create artifacts, manifests and history once and replace the pointer; agents read, and write
// their own receipt. Nobody is trusted here: what an object says is believed by its signature alone, and the
// conditions below only keep two publishers from overwriting each other.
//
// Conditions. Create, Upload and Replace ask the store to refuse the write when something else is there. A store
// that answers "not implemented" is asked by a look before the write, which leaves a gap between the two and is
// logged; a store that silently ignores the condition cannot be told apart here. Callers with several publishers at
// once read back what they wrote.
//
// Retries happen in one layer, the SDK's: three attempts with full jitter. A create or replace that is refused on a
// repeated attempt is read back first: when the very bytes are there, the first attempt's answer was lost and the
// write succeeded. Without a single byte for ten seconds, or with hardly any for thirty, a reading call ends; no redirect is
// ever followed, and no web page is taken for an answer.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The errors that callers act on, beside fs.ErrNotExist (no such object), fs.ErrPermission (the store refuses these
// credentials), fs.ErrExist (a condition failed: something else is there) and errors.ErrUnsupported (the store does not
// do this). All come wrapped in an error that names operation, key and bucket.
var (
	// ErrNotModified says that the object still has the ETag that the caller knows.
	ErrNotModified = errors.New("not modified")
	// ErrNoBucket says that the bucket itself is missing, or lies in another region.
	ErrNoBucket = errors.New("no such bucket")
	// ErrUnreachable says that the endpoint gave no usable answer: refused, name not found, TLS, timeout, 5xx, or
	// an answer that is not S3's.
	ErrUnreachable = errors.New("bucket unreachable")
	// ErrNoCredentials says that no credentials were given and that the SDK's default chain found none; an IDToken that
	// cannot have a token here wraps it.
	ErrNoCredentials = errors.New("no credentials found")
	// ErrRole says that STS knows the role not, or does not give it to whoever holds this OIDC token. It is an
	// fs.ErrPermission.
	ErrRole = fmt.Errorf("role refused: %w", fs.ErrPermission)
	// ErrClock says that the store takes this machine's clock for wrong, and refuses every request. It is an
	// fs.ErrPermission.
	ErrClock = fmt.Errorf("the clocks differ: %w", fs.ErrPermission)
)

// Info describes one object.
type Info struct {
	Key      string
	Size     int64     // bytes of the whole object, also when only a range was opened
	ETag     string    // quoted, opaque; not a digest of the content
	Modified time.Time // as the store says; second precision on S3
}

// Version is one kept state of an object.
type Version struct {
	ID       string
	Size     int64
	ETag     string
	Modified time.Time
	Latest   bool
	Deleted  bool // a delete marker: the object was absent at this version; GetVersion gives fs.ErrNotExist
}

// Bucket holds objects under slash-separated keys. Every method may be called by several goroutines at once, takes an
// early end from ctx, and gives up by itself. Keys without a clean form (empty parts, "..", control characters, the
// store's own ".towline/") are refused before anything is sent.
type Bucket interface {
	// Get reads a whole small object. More than limit bytes are an error.
	Get(ctx context.Context, key string, limit int64) (data []byte, etag string, err error)
	// GetIfChanged is Get that costs no body and gives ErrNotModified while the object still has this ETag. An
	// empty ETag matches nothing.
	GetIfChanged(ctx context.Context, key, etag string, limit int64) (data []byte, info Info, err error)
	// Stat describes an object. On S3 a missing bucket looks like a missing object here.
	Stat(ctx context.Context, key string) (Info, error)
	// Open streams length bytes from offset on, or all the rest when length is negative. A range that begins at or
	// past the end of the object is an error, as is length 0. With ifMatch, an object with another ETag is
	// fs.ErrExist; a store that gives no ranges is errors.ErrUnsupported. A body that stalls, drips or breaks off ends in
	// ErrUnreachable: open again at the byte that is missing.
	Open(ctx context.Context, key string, offset, length int64, ifMatch string) (io.ReadCloser, Info, error)
	// Create writes an object that must not be there yet, else fs.ErrExist.
	Create(ctx context.Context, key string, data []byte, contentType string) error
	// Replace writes a JSON object over the one with this ETag, and gives the new ETag. An empty ETag means that
	// nothing may be there. Something else there is fs.ErrExist, nothing there fs.ErrNotExist. Not to be cached.
	Replace(ctx context.Context, key string, data []byte, etag string) (newETag string, err error)
	// Put writes whatever is there. Not to be cached.
	Put(ctx context.Context, key string, data []byte, contentType string) error
	// Upload is Create for size bytes of r, in parallel parts above 16 MiB, with memory that does not grow with
	// size. progress, when set, is called with the bytes that are there so far, rising, one call at a time. What a
	// failed upload leaves behind is aborted.
	Upload(ctx context.Context, key string, r io.ReaderAt, size int64, contentType string, progress func(done int64)) error
	// List gives the keys that begin with prefix, sorted by byte. None is no error.
	List(ctx context.Context, prefix string) ([]string, error)
	// Versions lists the kept versions of one object, newest first; errors.ErrUnsupported where the store keeps
	// none, fs.ErrNotExist where the object never was.
	Versions(ctx context.Context, key string) ([]Version, error)
	// GetVersion reads one kept version of a small object.
	GetVersion(ctx context.Context, key, versionID string, limit int64) ([]byte, error)
	// Check tells a missing bucket, an unreachable endpoint, and credentials that the store refuses. Credentials
	// that may not list the whole bucket are let pass: publishers and agents do not need that.
	Check(ctx context.Context) error
	// URL names the bucket for people, without secrets.
	URL() string
}

// Options says which bucket, and as whom. Where the URL has no such parameter, Region, Endpoint and PathStyle fill it
// in; a directory ignores all but URL and Log.
type Options struct {
	URL       string // NAME, s3://NAME?region=&endpoint=&path-style=, or file:///dir
	Region    string // default us-east-1 with a custom endpoint, else the SDK's chain
	Endpoint  string // http or https URL of the store, without the bucket; empty is AWS
	PathStyle *bool  // default true with a custom endpoint

	AccessKeyID     string // with SecretAccessKey; both empty: RoleARN, else the SDK's default chain
	SecretAccessKey string
	RoleARN         string                                                     // assumed through STS with a token of IDToken
	IDToken         func(ctx context.Context, audience string) (string, error) // called when credentials are first needed

	CABundle []byte       // PEM, trusted beside the system's own
	Log      *slog.Logger // nil discards

	stall time.Duration // tests shorten the ten seconds
}

// Open checks the options and gives the bucket that they name. It reads the SDK's configuration but calls no network:
// whether the bucket is there and may be used is told by Check, or by the first call.
func Open(ctx context.Context, o Options) (Bucket, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.stall == 0 {
		o.stall = 10 * time.Second
	}
	name := strconv.Quote(o.URL)
	if strings.Contains(o.URL, "@") {
		name = "URL" // may hold a password
	}
	loc, err := parse(o)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, err)
	}
	if loc.dir != "" {
		return newDirectory(loc), nil
	}
	s, err := openS3(ctx, loc, o)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, err)
	}
	return s, nil
}

// own is the folder at the root of a directory bucket that holds its lock and its unfinished files; no key may lie in it,
// on any store, so that a bucket can be copied from one kind to the other.
const own = ".towline"

// checkKey refuses keys that have no clean form on every store.
func checkKey(key string) error {
	if len(key) > 1024 || !utf8.ValidString(key) || strings.ContainsFunc(key, unicode.IsControl) {
		return fmt.Errorf("key %q: longer than 1024 bytes, not UTF-8, or with control characters", key)
	}
	for i, part := range strings.Split(key, "/") {
		if part == "" || part == "." || part == ".." || (i == 0 && part == own) {
			return fmt.Errorf("key %q: part %q is not allowed", key, part)
		}
	}
	return nil
}

// fault is an error with a text for people that wraps what callers ask for.
type fault struct {
	text string
	kind error
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return f.kind }

// tooLarge is the error of an object above the caller's limit.
func tooLarge(key, where string, limit int64) error {
	return fmt.Errorf("get object %s in %s: larger than %d bytes", key, where, limit)
}
