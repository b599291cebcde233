package threats

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	uses   = regexp.MustCompile(`(?m)^\s*(?:-\s+)?["']?uses["']?:\s*["']?([^\s"'#]+)["']?[ \t]*(#.*)?$`)
	pinned = regexp.MustCompile(`^[A-Za-z0-9_.-]+/[A-Za-z0-9_./-]+@[0-9a-f]{40}$`)
	digest = regexp.MustCompile(`^docker://[^@]+@sha256:[0-9a-f]{64}$`)
)

// free says why an action need not be pinned; false where it must be. Our own is what the reader is here for.
func free(action string) bool {
	return strings.HasPrefix(action, "./") || strings.HasPrefix(action, "towline/towline@") || strings.HasPrefix(action, "towline/towline/")
}

// unpinned are the third parties in a text that are not named by their commit.
func unpinned(text string) (bad []string, seen int) {
	for _, found := range uses.FindAllStringSubmatch(text, -1) {
		seen++
		action, comment := found[1], found[2]
		switch {
		case free(action), digest.MatchString(action):
		case !pinned.MatchString(action):
			bad = append(bad, action)
		case comment == "":
			bad = append(bad, action+" (without the version in a comment)")
		}
	}
	return bad, seen
}

// A tag can be moved to other code by whoever takes over an action; a commit cannot.
func TestThirdPartyActionsArePinned(t *testing.T) {
	for text, want := range map[string]int{
		"- uses: actions/checkout@v4":                                                1,
		"  uses: actions/checkout@main ":                                             1,
		"- uses: actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8 # v5.0.0": 0,
		"- uses: actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8":          1,
		"- uses: \"actions/checkout@11bd719\"":                                       1,
		"- uses: docker://alpine:3":                                                  1,
		"- uses: ./local":                                                            0,
		"- uses: towline/towline@v1":                                                 0,
		"- uses: towline/evil@v1":                                                    1,
		"- uses: towline/towline-evil@v1":                                            1,
	} {
		if bad, seen := unpinned(text); len(bad) != want || seen != 1 {
			t.Errorf("%q: got %q of %d, want %d of 1", text, bad, seen, want)
		}
	}
	var all, files int
	for _, place := range []string{"README.md", "action.yml", "docs", "examples", ".github"} {
		err := filepath.WalkDir(filepath.Join(root, place), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			switch filepath.Ext(path) {
			case ".md", ".yml", ".yaml":
			default:
				return nil
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			bad, seen := unpinned(string(data))
			for _, action := range bad {
				t.Errorf("%s: %s is not pinned by its commit, with its version behind it", path, action)
			}
			all += seen
			files++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if all < 7 || files < 7 {
		t.Errorf("saw %d uses in %d files; is it looking in the right place?", all, files)
	}
}
