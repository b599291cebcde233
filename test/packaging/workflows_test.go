package packaging

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/towline/towline/test/parts"
)

// workflows lists the workflows of this repository.
func workflows(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(root + "/.github/workflows/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ci.yml", "release.yml"} {
		if !slices.Contains(paths, root+"/.github/workflows/"+name) {
			t.Fatalf("got workflows %q, want %s among them", paths, name)
		}
	}
	return paths
}

// scripts lists the shell scripts of packaging/ and .ci/.
func scripts(t *testing.T) []string {
	t.Helper()
	var paths []string
	for _, dir := range []string{"packaging", ".ci"} {
		for _, name := range files(t, filepath.Join(root, dir)) {
			path := filepath.Join(root, dir, name)
			if text := read(t, path); strings.HasPrefix(text, "#!/bin/sh\n") || strings.HasPrefix(text, "#!/usr/bin/env bash\n") {
				paths = append(paths, path)
			}
		}
	}
	if len(paths) < 9 {
		t.Errorf("got scripts %q, want at least nine", paths)
	}
	return paths
}

func TestActionlint(t *testing.T) {
	programs(t, "shellcheck") // which actionlint asks about what the steps run
	if out, err := try(t, nil, append([]string{parts.Tool(t, "actionlint"), "-color=false"}, workflows(t)...)...); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestShellcheck(t *testing.T) {
	programs(t, "shellcheck")
	for _, script := range scripts(t) {
		if out, err := try(t, nil, "shellcheck", "--format=gcc", script); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if info, err := os.Stat(script); err != nil || info.Mode().Perm()&0o111 == 0 && filepath.Base(filepath.Dir(script)) != ".ci" {
			t.Errorf("%s: got %v %v, want it executable", script, info, err)
		}
	}
}

// What others have written is named by a commit, with its version beside it. Two names of one version are the same commit.
func TestActionsArePinned(t *testing.T) {
	uses := regexp.MustCompile(`^\s*(?:- )?(?:\{ *)?"?uses"?: *(.*)$`)
	pinned := regexp.MustCompile(`^([A-Za-z0-9_.-]+/[A-Za-z0-9_./-]+)@([0-9a-f]{40}) # (v[0-9]+\.[0-9]+\.[0-9]+)$`)
	own := regexp.MustCompile(`^(\./.*|towline/towline(/\S+)?@v1)$`)
	commits, found := map[string]string{}, 0
	for _, path := range workflows(t) {
		for line := range strings.Lines(read(t, path)) {
			if strings.HasPrefix(strings.TrimSpace(line), "#") {
				continue
			}
			m := uses.FindStringSubmatch(strings.TrimRight(line, "\n"))
			if m == nil {
				if strings.Contains(line, "uses:") {
					t.Errorf("%s: %q: want uses: on a line of its own", path, line)
				}
				continue
			}
			if own.MatchString(m[1]) {
				continue
			}
			p := pinned.FindStringSubmatch(m[1])
			if p == nil {
				t.Errorf("%s: uses: %s: want owner/name@, 40 hex digits and # vX.Y.Z", path, m[1])
				continue
			}
			found++
			if got, ok := commits[p[1]+p[3]]; ok && got != p[2] {
				t.Errorf("%s: %s %s: got commits %s and %s", path, p[1], p[3], got, p[2])
			}
			commits[p[1]+p[3]] = p[2]
		}
	}
	if found < 15 {
		t.Errorf("got %d actions, want at least 15", found)
	}
}

type workflow struct {
	Permissions map[string]string
	Concurrency struct {
		Cancel any `yaml:"cancel-in-progress"`
	}
	Jobs map[string]struct {
		Needs       any
		If          string
		Environment any
		Permissions map[string]string
		Timeout     int `yaml:"timeout-minutes"`
		Steps       []struct {
			Uses, Run string
			With, Env map[string]any
		}
	}
}

func readWorkflow(t *testing.T, name string) workflow {
	t.Helper()
	var w workflow
	if err := yaml.Unmarshal([]byte(read(t, root+"/.github/workflows/"+name)), &w); err != nil {
		t.Fatal(err)
	}
	return w
}

// Every job asks for what it needs, and only the jobs that are named here may write anything.
func TestPermissions(t *testing.T) {
	writers := map[string][]string{
		"release.yml attest": {"attestations", "id-token"},
		"release.yml image":  {"attestations", "id-token", "packages"},
		"release.yml draft":  {"contents"},
		"release.yml tags":   {"contents"},
		"release.yml apt":    {"attestations", "id-token"},
		"release.yml pages":  {"id-token", "pages"},
	}
	for _, name := range []string{"ci.yml", "release.yml"} {
		w := readWorkflow(t, name)
		if w.Permissions == nil || len(w.Permissions) > 0 {
			t.Errorf("%s: permissions: got %v, want {}", name, w.Permissions)
		}
		for id, job := range w.Jobs {
			if job.Permissions == nil || job.Timeout == 0 {
				t.Errorf("%s: job %s: want permissions: and timeout-minutes:", name, id)
			}
			var got []string
			for scope, access := range job.Permissions {
				if access == "write" {
					got = append(got, scope)
				}
			}
			slices.Sort(got)
			if want := writers[name+" "+id]; !slices.Equal(got, want) {
				t.Errorf("%s: job %s: got write to %q, want %q", name, id, got, want)
			}
			for _, step := range job.Steps {
				// A token that stays in the checkout can be read by all that runs after it.
				if strings.HasPrefix(step.Uses, "actions/checkout@") && step.With["persist-credentials"] != false && job.Permissions["contents"] != "write" {
					t.Errorf("%s: job %s: want persist-credentials: false", name, id)
				}
				if strings.Contains(step.Run, "${{") {
					t.Errorf("%s: job %s: %q: want values through env:, never in the text that is run", name, id, step.Run)
				}
				if strings.Contains(strings.Join(strings.Fields(step.Run), " "), "APT_SIGNING_KEY") && job.Environment != "apt" {
					t.Errorf("%s: job %s: the apt key outside of its environment", name, id)
				}
			}
		}
	}
}

// What the workflows run of this repository is there.
func TestWorkflowsCallWhatExists(t *testing.T) {
	called := regexp.MustCompile(`(?:packaging|\.ci)/[A-Za-z0-9._-]+`)
	found := map[string]bool{}
	for _, name := range []string{"ci.yml", "release.yml"} {
		for _, job := range readWorkflow(t, name).Jobs {
			for _, step := range job.Steps {
				for _, path := range called.FindAllString(step.Run, -1) {
					found[path] = true
					if _, err := os.Stat(filepath.Join(root, path)); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
		}
	}
	for _, want := range []string{".ci/run", "packaging/release", "packaging/release-commit", "packaging/moving-tags", "packaging/apt-repo", "packaging/Dockerfile"} {
		if !found[want] {
			t.Errorf("got no call of %s", want)
		}
	}
}
