package host

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
)

// TestNoSpaceWhileRecycling has the disk be filled while the oldest release directory is being made into the next release. What it
// took is given back, and the release is unpacked into an empty directory, if that is enough; the log and the receipt
// say so. The live release and the one before it are whole all the time.
func TestNoSpaceWhileRecycling(t *testing.T) {
	const mebibyte = 1 << 20
	const full = "no space left on device"
	const fellBack = "recycling 1-one did not work, unpacking into an empty directory: "
	for _, test := range []struct {
		name    string
		oldest  map[string]string // files of the release that is recycled
		next    map[string]string // of the one it is made into
		fill    func(d *disk) error
		outcome deployment.Outcome
		words   []string
	}{
		{"bytes", map[string]string{"large": strings.Repeat("one", 30*mebibyte)}, noisy(32), func(d *disk) error { return d.writer(0) },
			deployment.Deployed, []string{full + " (0 MiB and "}},
		{"inodes", crowded("old", 1500), crowded("new", 300), func(d *disk) error { return d.crowd(0) },
			deployment.Deployed, []string{full, " and 0 inodes free in "}},
		{"not enough for an empty directory", noisy(8), noisy(32), func(d *disk) error { return d.writer(0) },
			deployment.Failed, []string{full + " (0 MiB and ", "fetch: not enough space in ", " MiB needed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			d := newDisk(t, filepath.Join(w.dir, "disk"), 320, 5000)
			w.app = filepath.Join(d.mount, "web")
			s := newStore(t, w)
			for _, version := range []string{"one", "two", "three"} {
				w.files = map[string]string{"large": noise(64, version)}
				if version == "one" {
					w.files = test.oldest
				}
				w.publish(version)
				w.ends(deployment.ExitOK, "web: deployed "+version)
			}
			same := func(dir, version string) {
				t.Helper()
				run(t, "diff", "-r", filepath.Join(w.dir, "source-"+version), filepath.Join(w.app, dir))
			}
			// In the middle of it, and after it.
			sound := func() {
				t.Helper()
				if got := w.live(); got != "three" {
					t.Errorf("got %q live, want three", got)
				}
				same("current/", "three")
				same("releases/2-two", "two")
			}
			s.set(func() {
				s.begun = func() {
					if left, _ := filepath.Glob(filepath.Join(w.app, "releases/1-one")); len(left) > 0 {
						t.Errorf("%q is there as a release while it is recycled", left)
					}
					sound()
					must(t, test.fill(d))
				}
			})
			w.files = test.next
			w.publish("four")
			code := deployment.ExitOK
			if test.outcome == deployment.Failed {
				code = deployment.ExitError
			}
			w.ends(code, append(test.words, fellBack, "web: "+string(test.outcome)+" four")...)
			r := w.receipt()
			told := ""
			for _, e := range r.Deployment.Events {
				told += e.Message + "\n"
			}
			if r.Deployment.Outcome != test.outcome || !strings.Contains(told, fellBack) || !strings.Contains(told, full) {
				t.Errorf("got %q in the receipt, and\n%s\nwant %q, and why nothing was recycled", r.Deployment.Outcome, told, test.outcome)
			}
			if test.outcome == deployment.Failed {
				w.stays("three")
				sound()
				d.free()
				w.ends(deployment.ExitOK, "web: deployed four")
			}
			w.stays("four")
			same("current/", "four")
			same("releases/3-three", "three")
		})
	}
}
