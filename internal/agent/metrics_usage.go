package agent

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// diskUse knows what release directories take of the disk. They do not change once they are there, so that each is read once,
// by the first who asks.
type diskUse struct {
	mu    sync.Mutex
	known map[string]map[directory]int64 // by app directory
}

// directory is one release directory, not another one that took its name.
type directory struct {
	name  string
	inode uint64
	at    time.Time
}

// of is what the complete releases below an app's directory take, -1 when they cannot be listed.
func (u *diskUse) of(dir string) (bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	releases := filepath.Join(dir, "releases")
	entries, err := os.ReadDir(releases)
	if err != nil {
		return -1
	}
	before, now := u.known[dir], map[directory]int64{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue // gone meanwhile, or not complete
		}
		p := directory{name: e.Name(), at: info.ModTime()}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			p.inode = st.Ino
		}
		size, known := before[p]
		if !known {
			size = blocks(filepath.Join(releases, e.Name()))
		}
		now[p] = size
		bytes += size
	}
	if u.known == nil {
		u.known = map[string]map[directory]int64{}
	}
	u.known[dir] = now
	return bytes
}

// blocks is what everything below dir takes of the disk. What cannot be read counts for nothing.
func blocks(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := e.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				bytes += 512 * st.Blocks
			}
		}
		return nil
	})
	return bytes
}
