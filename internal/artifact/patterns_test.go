package artifact

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestPatternsThatMatchNothing(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"dist/a.js", "api/.env", ".git/config"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	_, err := List(t.Context(), PackOptions{Dir: dir, Include: []string{"dist", "api", "lib"}, Exclude: []string{".env", "**/.env", ".git/**"},
		Unmatched: func(what, pattern string) { got = append(got, what+" "+pattern) }})
	if want := []string{"include lib", "exclude .env"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	for pattern, want := range map[string]string{"/dist": `write "dist"`, "!dist": `write "dist" in include`} {
		_, err := List(t.Context(), PackOptions{Dir: dir, Exclude: []string{pattern}})
		if !errors.Is(err, ErrSource) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", pattern, err, want)
		}
	}
}
