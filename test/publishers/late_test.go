package publishers

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/towline/towline/internal/deployment"
)

// An old commit's job that comes late sends not one request that writes, and the bucket stays as it is, byte for byte and version for
// version.
func TestOldCommitsLateJob(t *testing.T) {
	t.Parallel()
	y := &yard{world: newWorld(t)}
	y.checkouts(-1, 0, 1, 2, 0)
	var mu sync.Mutex
	var wrote []string
	take := func() (all []string) {
		mu.Lock()
		defer mu.Unlock()
		all, wrote = wrote, nil
		return all
	}
	g := newGate(t, y.s3, func(g *gate) {
		g.before = func(r *http.Request) bool {
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				mu.Lock()
				wrote = append(wrote, r.Method+" "+r.URL.Path)
				mu.Unlock()
			}
			return true
		}
	})
	const app = "late"
	y.deploy(g.URL, app, 0, 0)
	y.deploy(g.URL, app, 1, 3)
	if len(take()) == 0 {
		t.Fatal("the gate saw no write of a job that is in time")
	}
	before, versions := y.state(y.name), y.versions()
	for i := range 3 {
		r := y.deploy(g.URL, app, 2+i, i)
		want := fmt.Sprintf("seq 2, release %.12s, is newer", y.commits[3])
		if r.code != 0 || r.Outcome != deployment.Superseded || r.Reason != want {
			t.Errorf("commit %d: got exit code %d, %s: %s, want superseded: %s", i, r.code, r.Outcome, r.Reason, want)
		}
		if wrote := take(); len(wrote) > 0 {
			t.Errorf("commit %d: wrote %q", i, wrote)
		}
	}
	if after := y.state(y.name); !maps.EqualFunc(before, after, slices.Equal) || versions != y.versions() {
		t.Errorf("the bucket changed: got %d objects, want %d", len(after), len(before))
	}
	// With on-superseded: fail it is red, and writes no more than that.
	if r := y.towline(g.URL, app, "publish", "--promote", "--path", y.dir(0)+"/dist", "--on-superseded", "fail"); r.code != deployment.ExitError || len(take()) > 0 {
		t.Errorf("on-superseded: fail: got exit code %d, want %d and no write:\n%s", r.code, deployment.ExitError, r.log)
	}
	// A commit beside it, of a branch, is not behind.
	if r := y.deploy(g.URL, app, 5, 4); r.Outcome != deployment.Published || r.Seq != 3 {
		t.Errorf("a commit of a branch: got %s, seq %d, want published, 3", r.Outcome, r.Seq)
	}
}

// versions is the store's list of all versions of all objects.
func (y *yard) versions() string {
	y.Helper()
	status, body := y.s3.Do(y, http.MethodGet, "/"+y.name+"?versions=", nil)
	if status != http.StatusOK {
		y.Fatalf("versions: got status %d: %s", status, body)
	}
	return string(body)
}
