package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// ground is a directory for the agent's files. As root it is on a filesystem of its own, newly made in a file: on one
// where many files came and went, making files becomes several times slower, and a sync there waits for what others
// wrote. Where that cannot be, it is an ordinary directory, and the table says so.
func ground(b testing.TB, t *table) string {
	b.Helper()
	return groundOf(b, t, 6<<30)
}

// groundOf is a ground of so many bytes.
func groundOf(b testing.TB, t *table, size int64) string {
	b.Helper()
	dir, err := os.MkdirTemp("", "towline-") // the path of a socket below must be short
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	})
	own := filepath.Join(dir, "fs")
	if err := os.Mkdir(own, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := mountNew(filepath.Join(dir, "image"), own, size); err != nil {
		t.note("The agent's files were on a filesystem in general use, not on a new one: %v.", err)
		return own
	}
	done, signals := make(chan struct{}), make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-done:
		case <-signals:
			_ = syscall.Unmount(own, syscall.MNT_DETACH)
			_ = os.RemoveAll(dir)
			os.Exit(1)
		}
	}()
	b.Cleanup(func() {
		signal.Stop(signals)
		close(done)
		err := syscall.Unmount(own, 0)
		for try := 0; errors.Is(err, syscall.EBUSY) && try < 100; try++ {
			time.Sleep(50 * time.Millisecond) // a process that was just ended may still hold it
			err = syscall.Unmount(own, 0)
		}
		if err != nil {
			b.Errorf("unmount %s: %v", own, err)
		}
	})
	return own
}

// mountNew makes an ext4 filesystem in the file image, complete at once, and mounts it.
func mountNew(image, at string, size int64) error {
	if os.Getuid() != 0 {
		return errors.New("that needs root")
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(image, size); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image},
		{"mount", "-o", "loop", image, at},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, lastLines(string(out)))
		}
	}
	return nil
}
