package bucket

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"
)

func (d *directory) Create(ctx context.Context, key string, data []byte, _ string) error {
	return d.write(ctx, "create object", key, bytes.NewReader(data), (*os.Root).Link)
}

func (d *directory) Put(ctx context.Context, key string, data []byte, _ string) error {
	const op = "put object"
	root, err := d.enter(ctx, op, key)
	if err != nil {
		return err
	}
	defer root.Close()
	unlock, err := lock(ctx, root)
	if err != nil {
		return d.fault(op, key, err)
	}
	defer unlock()
	return d.write(ctx, op, key, bytes.NewReader(data), (*os.Root).Rename)
}

func (d *directory) Replace(ctx context.Context, key string, data []byte, etag string) (string, error) {
	const op = "replace object"
	if etag == "" {
		return etagOf(data), d.write(ctx, op, key, bytes.NewReader(data), (*os.Root).Link)
	}
	root, err := d.enter(ctx, op, key)
	if err != nil {
		return "", err
	}
	defer root.Close()
	unlock, err := lock(ctx, root)
	if err != nil {
		return "", d.fault(op, key, err)
	}
	defer unlock()
	now, err := d.Stat(ctx, key)
	if err == nil && now.ETag != etag {
		err = fs.ErrExist
	}
	if err != nil {
		return "", d.fault(op, key, err)
	}
	return etagOf(data), d.write(ctx, op, key, bytes.NewReader(data), (*os.Root).Rename)
}

func (d *directory) Upload(ctx context.Context, key string, r io.ReaderAt, size int64, _ string, progress func(int64)) error {
	if _, err := d.Stat(ctx, key); err == nil {
		return d.fault("upload object", key, fs.ErrExist)
	}
	return d.write(ctx, "upload object", key, &counter{ctx: ctx, r: io.NewSectionReader(r, 0, size), size: size, report: progress}, (*os.Root).Link)
}

// counter reports what went through, ends with ctx, and wants exactly size bytes.
type counter struct {
	ctx    context.Context
	r      io.Reader
	size   int64
	n      int64
	report func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err == io.EOF && c.n < c.size {
		err = io.ErrUnexpectedEOF
	}
	if (n > 0 || c.size == 0) && c.report != nil {
		c.report(c.n)
	}
	return n, err
}

// write makes a whole, durable file in the hidden folder and gives it its name by place: a link or a rename.
func (d *directory) write(ctx context.Context, op, key string, r io.Reader, place func(root *os.Root, from, to string) error) error {
	root, err := d.enter(ctx, op, key)
	if err != nil {
		return err
	}
	defer root.Close()
	return d.fault(op, key, put(root, key, r, place))
}

func put(root *os.Root, key string, r io.Reader, place func(root *os.Root, from, to string) error) error {
	if err := root.MkdirAll(own, 0o777); err != nil {
		return err
	}
	if err := root.MkdirAll(path.Dir(key), 0o777); err != nil {
		return err
	}
	tmp := own + "/" + rand.Text()
	f, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer root.Remove(tmp) // no file of this name is left after a rename
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := place(root, tmp, key); err != nil {
		return err
	}
	for dir := path.Dir(key); ; dir = path.Dir(dir) { // folders above may be new as well
		if err := syncDir(root, dir); err != nil || dir == "." {
			return err
		}
	}
}

func syncDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// lock takes the bucket's lock; the kernel gives it back should we die. Opened for reading only, so that writers of
// several users can share it.
func lock(ctx context.Context, root *os.Root) (unlock func(), err error) {
	if err := root.MkdirAll(own, 0o777); err != nil {
		return nil, err
	}
	f, err := root.OpenFile(own+"/lock", os.O_RDONLY|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-again.C:
		}
	}
}
