package packaging

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// Debian's own checker has nothing to say but what packaging/debian/lintian-overrides gives a reason for.
func TestLintian(t *testing.T) {
	programs(t, "lintian")
	lintian := func(deb string) (string, error) {
		return try(t, []string{"LC_ALL=C.UTF-8"}, "lintian", "--allow-root", "--no-cfg", "--fail-on=warning,error", "--tag-display-limit=0", deb)
	}
	for _, arch := range architectures {
		if out, err := lintian(filepath.Join(theRelease(t), fmt.Sprintf("towline_%s_%s.deb", version, arch))); err != nil {
			t.Errorf("%s: %v\n%s", arch, err, out)
		}
	}

	// That it looks at all: a package without its manual pages and overrides.
	dir, bad := t.TempDir(), filepath.Join(t.TempDir(), "bad.deb")
	run(t, nil, "dpkg-deb", "--raw-extract", debs(t)[0], dir)
	run(t, nil, "rm", "-r", dir+"/usr/share/man", dir+"/usr/share/lintian")
	run(t, nil, "dpkg-deb", "--build", "-Znone", "--root-owner-group", dir, bad)
	out, err := lintian(bad)
	for _, want := range []string{"statically-linked-binary [usr/bin/towline]", "no-manual-page [usr/bin/towline-agent]"} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("a bad package: got %v\n%s\nwant %s", err, out, want)
		}
	}
}

// Every override has its reason in a comment above, and overrides something.
func TestLintianOverridesHaveReasons(t *testing.T) {
	reason, found := false, 0
	for line := range strings.Lines(read(t, root+"/packaging/debian/lintian-overrides")) {
		switch {
		case strings.HasPrefix(line, "# "):
			reason = true
		case strings.TrimSpace(line) == "":
			reason = false
		case !reason || !strings.HasPrefix(line, "towline: "):
			t.Errorf("got %q, want a tag of the package below a comment with the reason", line)
		default:
			found++
		}
	}
	if found == 0 {
		t.Error("got no override")
	}
}
