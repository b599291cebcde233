package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/towline/towline/test/parts"
)

// TestServiceOnSystemd runs the tests of internal/service that need a machine of their own, as root in a droplet.
func TestServiceOnSystemd(t *testing.T) {
	d := parts.NewDroplet(t, parts.DropletOptions{Name: "service"})

	binary := filepath.Join(t.TempDir(), "service.test")
	build := exec.Command("go", "test", "-c", "-tags=droplet", "-o", binary, "github.com/towline/towline/internal/service")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // the droplet's C library is its own
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	d.CopyIn(t, binary, "/usr/local/bin/service.test", 0o755)

	out, err := d.TryRun(t, "service.test", "-test.v", "-test.shuffle=on", "-test.timeout=5m")
	if err != nil {
		t.Fatalf("service.test: %v\n%s", err, out)
	}
	// A binary built without the tag would pass as well.
	ran := regexp.MustCompile(`(?m)^--- PASS: TestSystemd`).FindAllString(out, -1)
	if got, want := len(ran), 10; got < want {
		t.Errorf("got %d tests of units that passed, want at least %d:\n%s", got, want, out)
	}
}
