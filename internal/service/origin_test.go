package service

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestResolvedAt(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	release := filepath.Join(dir, "releases", "1-aaaaaaaaaaaa")
	if err := os.MkdirAll(filepath.Join(release, "web"), 0o755); err != nil {
		t.Fatal(err)
	}
	current := filepath.Join(dir, "current")
	if err := os.Symlink("releases/1-aaaaaaaaaaaa", current); err != nil {
		t.Fatal(err)
	}
	later, earlier := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	for _, tt := range []struct {
		name string
		path string
		at   time.Time
		want string
	}{
		{"started after the switch", current, later, release},
		{"below the link", current + "/web", later, release + "/web"},
		{"started before the switch", current, earlier, ""},
		{"started before the switch, below", current + "/web", earlier, ""},
		{"no link on the way", release, earlier, release},
		{"nothing there", current + "/none", later, ""},
	} {
		if got := resolvedAt(tt.path, tt.at); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
