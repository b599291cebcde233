package exposition

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Process writes what is known of the process itself, by the names that every client library uses. What cannot be read is
// left out. started is when it began.
func (t *Text) Process(started time.Time) {
	t.Family("process_start_time_seconds", KindGauge, "When the process began, in Unix time.").
		Sample(float64(started.UnixMilli()) / 1000)
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) == nil {
		t.Family("process_cpu_seconds_total", KindCounter, "Processor time of the process.").
			Sample(time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds())
	}
	if pages, err := resident(); err == nil {
		t.Family("process_resident_memory_bytes", KindGauge, "Memory that the process holds, the pages of its program included.").
			Sample(float64(pages) * float64(os.Getpagesize()))
	}
	if open, err := openFiles(); err == nil {
		t.Family("process_open_fds", KindGauge, "Open file descriptors.").Sample(float64(open))
	}
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		t.Family("process_max_fds", KindGauge, "File descriptors that may be open.").Sample(float64(files.Cur))
	}
	t.Family("go_goroutines", KindGauge, "Goroutines that there are.").Sample(float64(runtime.NumGoroutine()))
}

// resident is the number of the process's pages in memory.
func resident() (uint64, error) {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(data)
	if len(fields) < 2 {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(string(fields[1]), 10, 64)
}

func openFiles() (int, error) {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	return len(names) - 1, err // but for the directory itself
}
