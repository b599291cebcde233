package artifact

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"sync"
	"syscall"
)

// find walks the tree from start, which is "." or one file, and gives what is to be packed, in no order. Directories are read
// side by side. Of several errors it gives the first in tree order, so that the same tree always gives the same one.
func (w *walker) find(start string) ([]Entry, error) {
	if start != "." {
		info, err := w.root.Lstat(start)
		if err != nil {
			return nil, fmt.Errorf("pack: %w", err)
		}
		e, packed, _, err := w.visit(start, fs.FileInfoToDirEntry(info))
		if err != nil || !packed {
			return nil, err
		}
		return []Entry{e}, nil
	}
	f := finder{w: w, todo: []string{"."}}
	f.more.L = &f.mu
	var reading sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), 8) {
		reading.Go(f.run)
	}
	reading.Wait()
	if err := w.ctx.Err(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return f.found, f.err
}

// finder is a walk under way.
type finder struct {
	w *walker

	mu      sync.Mutex
	more    sync.Cond
	todo    []string // directories to read
	reading int      // that are being read
	found   []Entry
	err     error
	at      string // where err was
}

// run reads one directory after the other until there are none.
func (f *finder) run() {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.more.Broadcast()
	for {
		for len(f.todo) == 0 && f.reading > 0 {
			f.more.Wait()
		}
		if len(f.todo) == 0 || f.w.ctx.Err() != nil {
			return
		}
		dir := f.todo[len(f.todo)-1]
		f.todo = f.todo[:len(f.todo)-1]
		f.reading++
		f.mu.Unlock()
		entries, below, at, err := f.w.read(dir)
		f.mu.Lock()
		f.reading--
		f.found, f.todo = append(f.found, entries...), append(f.todo, below...)
		if err != nil && (f.err == nil || comparePaths(at, f.at) < 0) {
			f.err, f.at = err, at
		}
		f.more.Broadcast()
	}
}

// read reads one directory: what is to be packed of it, and the directories to go on with. An error comes with its path, the
// first in tree order.
func (w *walker) read(dir string) (entries []Entry, below []string, at string, err error) {
	f, err := w.root.OpenFile(dir, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, dir, fmt.Errorf("pack: %w", err)
	}
	defer f.Close()
	list, err := f.ReadDir(-1)
	if err != nil {
		return nil, nil, dir, fmt.Errorf("pack: %w", err)
	}
	for _, d := range list {
		p := path.Join(dir, d.Name())
		e, packed, more, oops := w.visit(p, d)
		if oops != nil && (err == nil || comparePaths(p, at) < 0) {
			at, err = p, oops
		}
		if packed {
			entries = append(entries, e)
		}
		if more {
			below = append(below, p)
		}
	}
	return entries, below, at, err
}
