package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

// gitTime bounds one call of git.
const gitTime = 10 * time.Second

// release fills in what the flags do not say: from the last commit of the repository that holds the path, else with an
// empty message and SOURCE_DATE_EPOCH or 1980-01-01.
func (p *program) release(ctx context.Context, o publish.Options) (release.Release, error) {
	r := release.Release{Hash: o.Version, Msg: release.FirstLine(o.Message), Date: o.Date}
	if r.Hash != "" && r.Msg != "" && r.Date != "" {
		return r, nil
	}
	hash, date, msg, err := lastCommit(ctx, o.Path)
	if err != nil && r.Hash == "" {
		return r, &fault{
			err: errors.New("--version: empty, and git knows of no commit at " + o.Path), code: deployment.ExitUsage,
			hint: "name the release with --version, or publish from a git repository",
		}
	}
	if r.Hash == "" {
		r.Hash = hash
	}
	if r.Msg == "" {
		r.Msg = release.FirstLine(msg)
	}
	if r.Date == "" {
		r.Date = date
	}
	if r.Date == "" {
		epoch, err := strconv.ParseInt(p.env.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
		if err != nil {
			epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
		}
		r.Date = time.Unix(epoch, 0).UTC().Format(time.RFC3339)
	}
	return r, nil
}

// lastCommit asks git for the newest commit of the repository that holds dir.
func lastCommit(ctx context.Context, dir string) (hash, date, msg string, err error) {
	out, err := git(ctx, dir, "log", "-1", "--no-show-signature", "--format=%H%n%cI%n%s")
	if err != nil {
		return "", "", "", err
	}
	lines := strings.SplitN(strings.TrimSuffix(out, "\n"), "\n", 3)
	if len(lines) < 3 {
		return "", "", "", errors.New("git log: unexpected output")
	}
	when, err := time.Parse(time.RFC3339, lines[1])
	if err != nil {
		return "", "", "", fmt.Errorf("git log: %w", err)
	}
	return lines[0], when.UTC().Format(time.RFC3339), lines[2], nil
}

// compare tells by the repository that holds dir how commit head stands to base.
func compare(dir string) func(ctx context.Context, base, head string) (string, error) {
	return func(ctx context.Context, base, head string) (string, error) {
		if base == head {
			return "identical", nil
		}
		out, err := git(ctx, dir, "merge-base", base, head)
		if err != nil {
			return "", err
		}
		switch strings.TrimSpace(out) {
		case head:
			return "behind", nil
		case base:
			return "ahead", nil
		}
		return "diverged", nil
	}
}

func git(ctx context.Context, dir string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, gitTime)
	defer cancel()
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		dir = filepath.Dir(dir)
	}
	if dir == "" {
		dir = "."
	}
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, argv...)...).Output()
	return string(out), err
}
