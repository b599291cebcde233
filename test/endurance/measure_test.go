package endurance

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// measured is what the agent takes at one moment, by name.
type measured map[string]float64

// limits are the names, in the order in which they are told, with how much more the end may take than the early stretch: a
// share of it, and a number on top.
var limits = []struct {
	name  string
	share float64
	more  float64
}{
	{"app directory, KiB", 0.1, 64},
	{"app directory, files", 0.1, 8},
	{"state without state.json and records, KiB", 0.1, 64},
	{"state without records, files", 0, 4},
	{"memory, KiB", 0.2, 4096},
	{"descriptors", 0, 6},
	{"threads", 0, 8}, // the runtime keeps those that a slow disk once made it start
	{"goroutines", 0, 8},
}

// measure looks at the agent's process, at its directories, and at what it says of itself.
func (a *agent) measure(t *testing.T) measured {
	t.Helper()
	m := measured{}
	add := func(dir string, of func(path string, blocks int64)) {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a temporary file that has got its name meanwhile
			}
			if err != nil {
				return err
			}
			info, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil {
				of(path, info.Sys().(*syscall.Stat_t).Blocks)
			}
			return err
		})
		must(t, err)
	}
	add(filepath.Join(a.dir, "web"), func(_ string, blocks int64) {
		m["app directory, KiB"] += float64(blocks) / 2
		m["app directory, files"]++
	})
	add(filepath.Join(a.dir, "state"), func(path string, blocks int64) {
		switch {
		case strings.Contains(path, "/deployments/"):
			m["records"]++
		case filepath.Base(path) == "state.json":
			m["state.json, KiB"] += float64(blocks) / 2
			m["state without records, files"]++
		case strings.HasPrefix(filepath.Base(path), ".state.json.tmp-"): // a save under way: as large as what it replaces
			m["state.json under way, KiB"] += float64(blocks) / 2
			m["state without records, files"]++
		default:
			m["state without state.json and records, KiB"] += float64(blocks) / 2
			m["state without records, files"]++
		}
	})
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.pid))
	must(t, err)
	m["descriptors"] = float64(len(open))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.pid))
	must(t, err)
	m["memory, KiB"], m["threads"] = field(t, string(status), "VmRSS:"), field(t, string(status), "Threads:")
	m["goroutines"] = field(t, string(a.get(t, "/metrics")), "go_goroutines")
	return m
}

// field is the number after a name at the beginning of a line.
func field(t *testing.T, text, name string) float64 {
	t.Helper()
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 1 && words[0] == name {
			v, err := strconv.ParseFloat(words[1], 64)
			must(t, err)
			return v
		}
	}
	t.Fatalf("no %s in\n%s", name, text)
	return 0
}

// most is the highest of each over a stretch: what is busy at one moment is idle at another.
func most(stretch []measured) measured {
	out := measured{}
	for _, m := range stretch {
		for name, v := range m {
			out[name] = max(out[name], v)
		}
	}
	return out
}

// flat compares the end, when so many releases have been published, with the early stretch, and returns the table.
func flat(early, end measured, published int) (table string, grown []string) {
	var b strings.Builder
	fmt.Fprintf(&b, "%-45s %10s %10s %10s\n", "", "early", "end", "may be")
	compare := func(name string, may float64) {
		fmt.Fprintf(&b, "%-45s %10.0f %10.0f %10.0f\n", name, early[name], end[name], may)
		if end[name] > may {
			grown = append(grown, fmt.Sprintf("%s: got %.0f, want at most %.0f", name, end[name], may))
		}
	}
	for _, l := range limits {
		compare(l.name, early[l.name]*(1+l.share)+l.more)
	}
	// These grow until they are full: so many records and the newest, and half a KiB for each pointer that is remembered.
	state := 16 + float64(min(keepAccepted, published))/2
	compare("records", keepRecords+1)
	compare("state.json, KiB", state)
	compare("state.json under way, KiB", state)
	return b.String(), grown
}
