package appdir

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// fsync is a variable for tests.
var fsync = (*os.File).Sync

// syncfsTells reports whether syncfs tells of writes that failed, as fsync does. It does since Linux 5.8.
var syncfsTells = sync.OnceValue(func() bool {
	var u unix.Utsname
	return unix.Uname(&u) == nil && tells(unix.ByteSliceToString(u.Release[:]))
})

// tells is syncfsTells for a kernel of this release.
func tells(kernel string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(kernel, "%d.%d", &major, &minor); n < 2 {
		return false
	}
	return major > 5 || major == 5 && minor >= 8
}

// syncEach syncs every file of the stage, and every directory after what is in it.
func syncEach(stage string) error {
	var dirs []string
	err := filepath.WalkDir(stage, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			dirs = append(dirs, path)
			return nil
		case entry.Type().IsRegular():
			return syncOne(path)
		}
		return nil // a link is in its directory
	})
	for _, dir := range slices.Backward(dirs) {
		if err == nil {
			err = syncOne(dir)
		}
	}
	return err
}

func syncOne(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	err = fsync(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
