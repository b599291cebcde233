package agent

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// tamper changes a file of a release and puts its size and times back.
func (w *world) tamper(path, content string) {
	w.t.Helper()
	info, err := os.Stat(path)
	w.must(err)
	w.must(os.WriteFile(path, []byte(content), 0o644))
	w.must(os.Chtimes(path, time.Time{}, info.ModTime()))
}

// unpublish deletes the artifact of a release from the bucket.
func (w *world) unpublish(app, hash string) {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(w.dir, "bucket", app, "releases", hash+"-*.tar.zst"))
	w.must(err)
	if len(found) != 1 {
		w.t.Fatalf("artifacts of %s: got %q, want one", hash, found)
	}
	w.must(os.Remove(found[0]))
}

func (r *running) detail(app string) deployment.Detail {
	r.w.t.Helper()
	var d deployment.Detail
	r.call("/v1/apps/"+app, nil, &d)
	return d
}

// Whoever can write an old release's files and waits for a rollback gets nothing live: what was found changed is fetched
// again and verified, and where that cannot be, refused.
func TestTamperedReleaseIsNotRolledBackTo(t *testing.T) {
	w := newWorld(t)
	w.publish("web", hash("1"), "one")
	r := w.start(w.settings(listening, oneApp))
	r.settled("web", hash("1"))
	w.must(second(r.ring(w.publish("web", hash("2"), "two"), "")))
	old := filepath.Join(w.dir, "srv", "web", "releases", "1-"+hash("1")[:12])
	never := func() {
		t.Helper()
		if got := w.live("web"); strings.Contains(got, "EVI") {
			t.Fatalf("%q went live", got)
		}
	}

	// Found by verify, said in status, and fetched again.
	w.tamper(filepath.Join(old, "version.txt"), "EVI")
	var result deployment.Result
	if code := r.call("/v1/apps/web/verify", deployment.Command{}, &result); code != http.StatusOK || len(result.Releases) != 2 {
		t.Fatalf("verify: got %d %+v", code, result)
	}
	want := deployment.Difference{Path: "version.txt", What: deployment.Changed}
	if v := result.Releases[1]; v.State != deployment.Drifted || len(v.Differ) != 1 || v.Differ[0] != want || v.Live {
		t.Errorf("verify: got %+v, want %v", v, want)
	}
	if v := result.Releases[0]; v.State != deployment.Sound || !v.Live {
		t.Errorf("verify: got %+v, want the live one sound", v)
	}
	if d := r.detail("web"); len(d.Drift) != 1 || !strings.Contains(d.Receipt.Status, "was changed on this server and is fetched again before it is used: version.txt (changed)") {
		t.Errorf("detail: got %+v, status %q", d.Drift, d.Receipt.Status)
	}
	var page string
	if r.call("/", nil, &page); !strings.Contains(page, "version.txt (changed)") {
		t.Errorf("the status page does not say it: %s", page)
	}
	if code := r.call("/v1/apps/web/rollback", deployment.Command{}, &result); code != http.StatusOK || result.Outcome != deployment.Deployed {
		t.Fatalf("rollback: got %d %+v", code, result)
	}
	if got := w.live("web"); got != "one" {
		t.Errorf("got %q live, want what was published", got)
	}

	// Found by the scrub after a deployment alone, and gone from the bucket: refused, before anything is touched.
	w.tamper(filepath.Join(w.dir, "srv", "web", "releases", "2-"+hash("2")[:12], "version.txt"), "EVI")
	w.unpublish("web", hash("2"))
	w.must(second(r.ring(w.publish("web", hash("3"), "three"), "")))
	for end := time.Now().Add(20 * time.Second); len(r.detail("web").Drift) == 0; {
		if time.Now().After(end) {
			t.Fatal("the scrub found nothing")
		}
	}
	for _, command := range []deployment.Command{{Version: hash("2")}, {Version: hash("2")[:8]}} {
		var p deployment.Problem
		if code := r.call("/v1/apps/web/rollback", command, &p); code != http.StatusUnprocessableEntity || p.Code != deployment.ExitRefused ||
			!strings.Contains(p.Message, "was changed on this server (version.txt (changed)) and cannot be fetched again") {
			t.Errorf("rollback to what is gone: got %d %+v", code, p)
		}
	}
	never()
	if got := w.live("web"); got != "three" {
		t.Errorf("got %q live, want three", got)
	}

	// The release before three is one; it is sound, and goes live from the disk.
	if code := r.call("/v1/apps/web/rollback", deployment.Command{}, &result); code != http.StatusOK || result.Outcome != deployment.Deployed || w.live("web") != "one" {
		t.Errorf("rollback: got %d %+v, %q live", code, result, w.live("web"))
	}
	never()
}

// An unpacked release is the agent's to write and everybody's to read, whatever the umask.
func TestReleasesAreNeverTheAppsToWrite(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077} {
		old := syscall.Umask(umask)
		func() {
			defer syscall.Umask(old)
			w := newWorld(t)
			w.files = map[string]string{"bin/deep/run": "#!/bin/sh\n"}
			w.must(os.MkdirAll(filepath.Join(w.dir, "srv", "web", "shared", "var", "data"), 0o755))
			w.publish("web", hash("1"), "one")
			if code, out, errs := w.once(w.file("", oneApp+"    shared: [var/data/]\n")); code != 0 {
				t.Fatalf("got exit code %d: %s %s", code, out, errs)
			}
			seen := map[string]fs.FileMode{}
			root := filepath.Join(w.dir, "srv", "web", "releases", "1-"+hash("1")[:12])
			w.must(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				info, err := d.Info()
				if err != nil {
					return err
				}
				rel, err := filepath.Rel(root, path)
				if info.Mode().Type() != fs.ModeSymlink {
					seen[rel] = info.Mode().Perm()
				}
				st := info.Sys().(*syscall.Stat_t)
				if int(st.Uid) != os.Geteuid() || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 {
					t.Errorf("umask %03o: %s has mode %v and owner %d, want the agent's %d and no special bits", umask, rel, info.Mode(), st.Uid, os.Geteuid())
				}
				return err
			}))
			for path, want := range map[string]fs.FileMode{".": 0o755, "version.txt": 0o644, "bin": 0o755, "bin/deep": 0o755, "bin/deep/run": 0o755, "var": 0o755} {
				if seen[path] != want {
					t.Errorf("umask %03o: %s has mode %v, want %v", umask, path, seen[path], want)
				}
			}
		}()
	}
}
