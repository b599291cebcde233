package service

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// StartedFrom returns the resolved directory that the unit's main process was started from, or "" where nothing runs
// or nobody can tell. Root sees it in /proc; for others it follows from the unit's WorkingDirectory, as long as no
// symbolic link on that path is younger than the process.
func (s *Systemd) StartedFrom(ctx context.Context) (string, error) {
	props, err := s.bus.properties(ctx, s.unit)
	if err != nil {
		return "", fmt.Errorf("working directory of %s: %w", s.unit, err)
	}
	pid := unitState(props).MainPID
	if pid == 0 {
		return "", nil
	}
	if dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err == nil {
		return strings.TrimSuffix(dir, " (deleted)"), nil
	}
	dir, _ := props["WorkingDirectory"].(string)
	started, _ := props["ExecMainStartTimestamp"].(uint64) // microseconds since 1970
	dir = strings.TrimPrefix(dir, "!")                     // systemd's sign for "may be missing"
	if !filepath.IsAbs(dir) || started == 0 {
		return "", nil
	}
	return resolvedAt(dir, time.UnixMicro(int64(started))), nil // #nosec G115 -- a time
}

// resolvedAt follows the symbolic links of an absolute path, and returns "" if it led elsewhere at that time or
// cannot be followed.
func resolvedAt(path string, at time.Time) string {
	for p := path; p != "/"; p = filepath.Dir(p) {
		info, err := os.Lstat(p)
		if err != nil {
			return ""
		}
		if info.Mode()&os.ModeSymlink == 0 {
			continue
		}
		// A link is replaced by renaming another over it, which sets its change time.
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || !time.Unix(stat.Ctim.Unix()).Before(at) {
			return ""
		}
	}
	dir, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	return dir
}
