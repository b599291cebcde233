package bucket

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// directory is a bucket in a plain directory: a file per object, whose ETag is the SHA-256 of its content. An object
// appears by link (create-only) or rename (replace), whole and fsynced; Replace and Put exclude each other by a lock on
// a file in the hidden folder that also holds unfinished writes. People may copy files in and out at any time. A key
// cannot be an object and a folder at once, unlike on S3.
type directory struct {
	path string
	url  string

	mu   sync.Mutex
	tags map[string]tagged // of large files that have settled; read anew whenever the file is another
}

// tagged is an ETag with the state of the file that it was computed from.
type tagged struct {
	file fs.FileInfo
	etag string
}

func newDirectory(loc location) *directory {
	return &directory{path: loc.dir, url: loc.String(), tags: map[string]tagged{}}
}

func (d *directory) URL() string { return d.url }

// enter checks ctx and key and opens the root, below which every path of this bucket stays, symlinks included.
func (d *directory) enter(ctx context.Context, op, key string) (*os.Root, error) {
	if err := ctx.Err(); err != nil {
		return nil, d.fault(op, key, err)
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return d.root(op, key)
}

func (d *directory) root(op, key string) (*os.Root, error) {
	root, err := os.OpenRoot(d.path)
	if fi, statErr := os.Stat(d.path); err != nil && (errors.Is(statErr, fs.ErrNotExist) || statErr == nil && !fi.IsDir()) {
		err = &fault{text: "no such directory", kind: ErrNoBucket}
	}
	return root, d.fault(op, key, err)
}

// fault names operation, key, directory and cause.
func (d *directory) fault(op, key string, err error) error {
	if err == nil {
		return nil
	}
	if key != "" {
		op += " " + key
	}
	text, kind := err.Error(), err
	var ours *fault
	var at *fs.PathError
	switch {
	case errors.As(err, &ours):
		text, kind = ours.text, ours.kind
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		text, kind = "no such object", fs.ErrNotExist
	case errors.Is(err, fs.ErrExist):
		text = "something else is there"
	case errors.Is(err, fs.ErrPermission):
		text = "access denied"
	case errors.As(err, &at):
		text = at.Err.Error()
	}
	return &fault{text: fmt.Sprintf("%s in directory %s: %s", op, d.path, text), kind: kind}
}

// open opens one object for reading.
func (d *directory) open(root *os.Root, key string) (*os.File, fs.FileInfo, error) {
	f, err := root.OpenFile(key, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a fifo must not hang us
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

// load reads one object of at most limit bytes.
func (d *directory) load(root *os.Root, key string, limit int64) ([]byte, Info, error) {
	f, fi, err := d.open(root, key)
	if err != nil {
		return nil, Info{}, d.fault("get object", key, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, Info{}, d.fault("get object", key, err)
	}
	if int64(len(data)) > limit {
		return nil, Info{}, tooLarge(key, "directory "+d.path, limit)
	}
	return data, Info{Key: key, Size: int64(len(data)), ETag: etagOf(data), Modified: fi.ModTime()}, nil
}

func etagOf(data []byte) string { return fmt.Sprintf(`"%x"`, sha256.Sum256(data)) }

// info describes an open object. The ETag of a large file that has not been touched for some time is remembered, so
// that many ranges of an artifact do not read all of it each time.
func (d *directory) info(key string, f *os.File, fi fs.FileInfo) (Info, error) {
	info := Info{Key: key, Size: fi.Size(), Modified: fi.ModTime()}
	d.mu.Lock()
	known, ok := d.tags[key]
	d.mu.Unlock()
	if ok && os.SameFile(known.file, fi) && known.file.Size() == fi.Size() && known.file.ModTime().Equal(fi.ModTime()) {
		info.ETag = known.etag
		return info, nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, fi.Size())); err != nil {
		return Info{}, err
	}
	info.ETag = fmt.Sprintf(`"%x"`, sum.Sum(nil))
	if fi.Size() > 1<<20 && time.Since(fi.ModTime()) > 2*time.Second {
		d.mu.Lock()
		if len(d.tags) >= 256 {
			clear(d.tags)
		}
		d.tags[key] = tagged{fi, info.ETag}
		d.mu.Unlock()
	}
	return info, nil
}

func (d *directory) Get(ctx context.Context, key string, limit int64) ([]byte, string, error) {
	data, info, err := d.GetIfChanged(ctx, key, "", limit)
	return data, info.ETag, err
}

func (d *directory) GetIfChanged(ctx context.Context, key, etag string, limit int64) ([]byte, Info, error) {
	root, err := d.enter(ctx, "get object", key)
	if err != nil {
		return nil, Info{}, err
	}
	defer root.Close()
	data, info, err := d.load(root, key, limit)
	if err == nil && etag != "" && info.ETag == etag {
		return nil, info, d.fault("get object", key, ErrNotModified)
	}
	return data, info, err
}

func (d *directory) Stat(ctx context.Context, key string) (Info, error) {
	const op = "stat object"
	root, err := d.enter(ctx, op, key)
	if err != nil {
		return Info{}, err
	}
	defer root.Close()
	f, fi, err := d.open(root, key)
	if err != nil {
		return Info{}, d.fault(op, key, err)
	}
	defer f.Close()
	info, err := d.info(key, f, fi)
	return info, d.fault(op, key, err)
}

func (d *directory) Open(ctx context.Context, key string, offset, length int64, ifMatch string) (io.ReadCloser, Info, error) {
	const op = "get object"
	root, err := d.enter(ctx, op, key)
	if err != nil {
		return nil, Info{}, err
	}
	defer root.Close()
	if err := checkRange(key, offset, length); err != nil {
		return nil, Info{}, err
	}
	f, fi, err := d.open(root, key)
	if err != nil {
		return nil, Info{}, d.fault(op, key, err)
	}
	info, err := d.info(key, f, fi)
	switch {
	case err != nil:
	case ifMatch != "" && info.ETag != ifMatch:
		err = fs.ErrExist
	case offset > 0 && offset >= info.Size || length > 0 && info.Size == 0:
		err = errors.New("the range begins past the end of the object")
	}
	if err != nil {
		f.Close()
		return nil, Info{}, d.fault(op, key, err)
	}
	if length < 0 || length > info.Size-offset {
		length = info.Size - offset
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, offset, length), f}, info, nil
}

func (d *directory) List(ctx context.Context, prefix string) ([]string, error) {
	const op = "list objects"
	root, err := d.root(op, prefix)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	start, _, _ := cutLast(prefix)
	if start != "." && checkKey(start) != nil {
		return nil, nil // no key begins so
	}
	var keys []string
	err = fs.WalkDir(root.FS(), start, func(key string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
			return nil // gone while we looked, or never there
		case err != nil:
			return err
		case key == own:
			return fs.SkipDir
		case entry.Type().IsRegular() && strings.HasPrefix(key, prefix) && checkKey(key) == nil:
			keys = append(keys, key)
		}
		return nil
	})
	if err != nil {
		return nil, d.fault(op, prefix, err)
	}
	slices.Sort(keys)
	return keys, nil
}

// cutLast gives the folder that every key with this prefix lies in.
func cutLast(prefix string) (folder, rest string, found bool) {
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		return prefix[:i], prefix[i+1:], true
	}
	return ".", prefix, false
}

func (d *directory) Versions(_ context.Context, key string) ([]Version, error) {
	return nil, d.unversioned("list versions of", key)
}

func (d *directory) GetVersion(_ context.Context, key, _ string, _ int64) ([]byte, error) {
	return nil, d.unversioned("get version of", key)
}

func (d *directory) unversioned(op, key string) error {
	return d.fault(op, key, &fault{text: "a directory keeps no versions", kind: errors.ErrUnsupported})
}

func (d *directory) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return d.fault("look", "", err)
	}
	root, err := d.root("look", "")
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := root.Open(".")
	if err != nil {
		return d.fault("look", "", err)
	}
	defer f.Close()
	_, err = f.ReadDir(1)
	if err == io.EOF {
		err = nil
	}
	return d.fault("look", "", err)
}
