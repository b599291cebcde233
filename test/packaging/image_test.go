package packaging

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The published image and the one that every other commit's action.yml builds are the same to the runner.
func TestDockerfiles(t *testing.T) {
	last := func(path string) []string {
		stages := regexp.MustCompile(`(?m)^FROM `).Split(read(t, path), -1)
		var out []string
		for line := range strings.Lines(stages[len(stages)-1]) {
			if line = strings.TrimSpace(line); line != "" && !regexp.MustCompile(`^(LABEL|ARG) `).MatchString(line) {
				// Where the program comes from is what differs.
				out = append(out, regexp.MustCompile(`^COPY (\S+ )+/towline-action$`).ReplaceAllString(line, "COPY … /towline-action"))
			}
		}
		return out
	}
	got, want := last(root+"/packaging/Dockerfile"), last(root+"/Dockerfile")
	if !slices.Equal(got, want) {
		t.Errorf("last stage of packaging/Dockerfile: got %q, want %q as in Dockerfile", got, want)
	}
	if want := `ENTRYPOINT ["/towline-action"]`; len(got) != 4 || got[0] != "scratch" || got[3] != want {
		t.Errorf("last stage: got %q, want scratch, two copies and %s", got, want)
	}
	text := read(t, root+"/packaging/Dockerfile")
	for _, pattern := range []string{`^# *syntax=`, `--mount=`, `<<`, `--link`, `--chmod=`, `--platform=`, `^RUN `} {
		if regexp.MustCompile(`(?m)` + pattern).MatchString(text) {
			t.Errorf("packaging/Dockerfile: got %s, want nothing that only BuildKit understands, and nothing that is run", pattern)
		}
	}
	base := regexp.MustCompile(`(?m)^FROM (\S+) AS build$`)
	if got, want := base.FindString(text), base.FindString(read(t, root+"/Dockerfile")); got != want {
		t.Errorf("packaging/Dockerfile: got %q, want the certificates of %q", got, want)
	}
}

func TestReleaseCommit(t *testing.T) {
	source := checkout(t)
	script, action := filepath.Join(source, "packaging/release-commit"), filepath.Join(source, "action.yml")
	before := read(t, action)
	image := "ghcr.io/towline/towline@sha256:" + strings.Repeat("0123456789abcdef", 4)
	for _, bad := range []string{"ghcr.io/towline/towline:v1", image + "0", image[:len(image)-1], "docker://" + image, "towline|e", image + "\nx: y"} {
		_, err := try(t, nil, script, bad)
		refused(t, bad, err, "want host/name@sha256:")
	}
	if got := read(t, action); got != before {
		t.Errorf("action.yml: got\n%s, want it untouched", got)
	}
	run(t, nil, script, image)
	if got, want := read(t, action), strings.Replace(before, "  image: Dockerfile\n", "  image: docker://"+image+"\n", 1); got != want || got == before {
		t.Errorf("action.yml: got\n%s, want\n%s", got, want)
	}
	if got, want := run(t, nil, "git", "-C", source, "status", "--porcelain"), " M action.yml\n"; got != want {
		t.Errorf("got changes %q, want %q", got, want)
	}
	_, err := try(t, nil, script, image)
	refused(t, "a second time", err, `does not say "image: Dockerfile" once`)
}

func TestMovingTags(t *testing.T) {
	for _, test := range []struct {
		release   string
		published []string
		want      string
	}{
		{"v0.1.0", nil, "v0 v0.1"},
		{"v1.2.3", []string{"v1.2.2", "v1.1.9", "v0.9.0"}, "v1 v1.2"},
		{"v1.2.3", []string{"v1.2.3", "v1.2.2"}, "v1 v1.2"}, // it may be among them
		{"v1.2.4", []string{"v1.3.0", "v2.0.0"}, "v1.2"},    // a fix of an older line
		{"v1.2.3", []string{"v1.2.10"}, ""},                 // published after a newer one
		{"v1.10.0", []string{"v1.9.0", "v10.0.0", "v1.1.0"}, "v1 v1.10"},
		{"v2.0.0", []string{"v1.9.0", "v2", "v2.9", "v2.9.0-rc1", "w2.9.0"}, "v2 v2.0"}, // those are no releases
	} {
		got, err := try(t, []string{"PUBLISHED=" + strings.Join(test.published, "\n")}, "bash", "-c",
			`printf '%s\n' "$PUBLISHED" | "$0" "$1"`, root+"/packaging/moving-tags", test.release)
		if got := strings.Join(strings.Fields(got), " "); err != nil || got != test.want {
			t.Errorf("%s after %v: got %q %v, want %q", test.release, test.published, got, err, test.want)
		}
	}
	_, err := try(t, nil, root+"/packaging/moving-tags", "v1.2")
	refused(t, "v1.2", err, "want vX.Y.Z")
}
