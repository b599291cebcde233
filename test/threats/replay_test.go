package threats

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// sickApp is web with a probe that fails for the version sick.
const sickApp = oneApp + "    health: {exec: [sh, -c, \"! grep -q sick $srv/web/current/index.html\"], within: 1s, stable: 0s}\n"

// Every pointer that ever was is put back, each before an agent that has just been started: one whose release was healthy
// here is followed, or refused where reverts are; one whose release never was, and one that this server never saw, are
// refused.
func TestOldPointerRestored(t *testing.T) {
	versions := []string{"v1", "v2-sick", "v3", "v4"}
	for _, reverts := range []string{"follow", "refuse"} {
		t.Run(reverts, func(t *testing.T) {
			s := newSite(t)
			key := keygen(t)
			ci := s.publisher(web, key)
			head := fmt.Sprintf("trust: {keys: [%s], reverts: %s}\n", list(key), reverts)
			v := s.server("web-1", head, sickApp)
			late := s.server("web-2", head, sickApp)
			var pointers [][]byte
			for _, version := range versions {
				pointers = append(pointers, ci.released(version))
				if code := deployment.ExitOK; strings.Contains(version, "sick") {
					code = deployment.ExitUnwell
					v.once().want(t, code, "rolled-back")
				} else {
					v.once().want(t, code, "deployed "+version)
				}
			}
			late.once().want(t, deployment.ExitOK, "deployed v4")
			late.wantLive("v4")

			for round := range 2 { // what went back once may go back again
				for i, file := range pointers[:3] {
					s.put(web.pointer(), file)
					late.refused(web, fmt.Sprintf("seq %d is not above 4, and this payload was never accepted here", i+1))
					switch {
					case versions[i] == "v2-sick" && reverts == "follow":
						v.refused(web, "the pointer went back to seq 2, whose release was never healthy on this server")
					case reverts == "follow":
						v.once().want(t, deployment.ExitOK, "deployed "+versions[i])
						v.wantLive(versions[i])
					default:
						v.refused(web, fmt.Sprintf("the pointer went back to seq %d, and reverts are refused here", i+1))
						v.wantLive("v4")
					}
				}
				s.put(web.pointer(), pointers[3])
				v.once().want(t, deployment.ExitOK, "deployed v4")
				v.wantLive("v4")
				if t.Failed() {
					t.Fatalf("in round %d", round+1)
				}
			}
			// Going back never lowered the mark: the next pointer has to be above all of them.
			ci.released("v5")
			v.once().want(t, deployment.ExitOK, "deployed v5")
		})
	}
	t.Run("after a crash", crashThenReplay)
}

// crashThenReplay kills the agent in the middle of activating a release, puts an older pointer back while it is down, and
// starts it again: the mark was raised before anything was activated, so that the older pointer is one.
func crashThenReplay(t *testing.T) {
	s := newSite(t)
	key := keygen(t)
	ci := s.publisher(web, key)
	head := fmt.Sprintf("trust: {keys: [%s], reverts: refuse}\n", list(key))
	app := "  web:\n    dir: $srv/web\n    restart: [sh, -c, \"if [ -e $srv/kill ]; then rm $srv/kill; kill -9 $PPID; fi\"]\n"
	v := s.server("web-1", head, app)
	first := ci.released("v1")
	v.once().want(t, deployment.ExitOK, "deployed v1")
	ci.released("v2")
	s.must(os.WriteFile(filepath.Join(v.srv(), "kill"), nil, 0o644))
	program, err := os.Executable()
	s.must(err)
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), asAgent+"="+v.file)
	if out, err := cmd.CombinedOutput(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("got %v, want the agent killed:\n%s", err, out)
	}
	s.put(web.pointer(), first)
	v.once().want(t, deployment.ExitOK, "deployed v2") // what was begun is finished first
	v.wantLive("v2")
	v.refused(web, "the pointer went back to seq 1, and reverts are refused here")
	v.wantLive("v2")
}

// A server without a memory cannot tell an old pointer from the newest. Expiry bounds how old it may be; it never stops
// what runs.
func TestReplayToAFreshServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		key := keygen(t)
		ci := s.publisher(web, key)
		old := s.server("old", trust(key), oneApp)
		first := ci.released("v1") // with the default of 90 days
		old.once().want(t, deployment.ExitOK, "deployed v1")
		expires := opened(t, web, first).Expires

		time.Sleep(89 * 24 * time.Hour)
		s.server("before", trust(key), oneApp).once().want(t, deployment.ExitOK, "deployed v1")

		time.Sleep(2 * 24 * time.Hour)
		fresh := s.server("after", trust(key), oneApp)
		fresh.untouched(deployment.ExitRefused, "the pointer expired at "+expires+", and an expired one is no ground for a first install", fresh.firstLook())
		if got := fresh.says(web); !strings.Contains(got, "refused: the pointer expired") {
			t.Errorf("receipt: got status %q", got)
		}
		old.untouched(deployment.ExitOK, "deployed v1", old.once)
		if got := old.says(web); got != "stale: the pointer expired at "+expires {
			t.Errorf("receipt: got status %q, want it stale", got)
		}

		// A pointer written now is good for all of them.
		ci.released("v2")
		fresh.once().want(t, deployment.ExitOK, "deployed v2")
		old.once().want(t, deployment.ExitOK, "deployed v2")
		if got := old.says(web); got != "" {
			t.Errorf("receipt: got status %q, want nothing to be said", got)
		}
		// And an expired one that is newer is followed where something is running: time stops nobody.
		ci.released("v3", "--expires-in", "1h")
		time.Sleep(2 * time.Hour)
		old.once().want(t, deployment.ExitOK, "deployed v3")
	})
}

// firstLook lets the agent make the directories of its app first.
func (v *server) firstLook() func() ran {
	v.t.Helper()
	v.once()
	return v.once
}

// Whoever keeps the newest pointer from a server is found out by the ping, which carries it and is followed, and at last by
// the expiry of what he goes on showing.
func TestFreeze(t *testing.T) {
	// Reverts that are followed are no way back: nobody restored what the bucket shows all the time.
	for reverts, frozen := range map[string]string{
		"refuse": "the pointer went back to seq 1, and reverts are refused here",
		"follow": "freeze suspected: a newer pointer came by ping, and the bucket still shows seq 1 as it was before",
	} {
		t.Run("a ping is ahead of the bucket, reverts: "+reverts, func(t *testing.T) {
			s := newSite(t)
			key := keygen(t)
			ci := s.publisher(web, key)
			ci.released("v1")
			// The server sees a mirror of the bucket, where artifacts arrive and the pointer stays what it was.
			mirror := func() {
				s.must(os.RemoveAll(filepath.Join(s.dir, "mirror/web/releases")))
				s.must(os.CopyFS(filepath.Join(s.dir, "mirror/web/releases"), os.DirFS(s.path("web/releases"))))
			}
			mirror()
			s.must(os.MkdirAll(filepath.Join(s.dir, "mirror/web/production"), 0o755))
			s.must(os.WriteFile(filepath.Join(s.dir, "mirror/web/production/version.json"), s.get(web.pointer()), 0o644))
			v := s.server("web-1", fmt.Sprintf("bucket: file://$dir/mirror\ntrust: {keys: [%s], reverts: %s}\nlisten: 127.0.0.1:0\n", list(key), reverts), oneApp)
			d := v.start()
			d.settled("v1")
			ci.upload("v2").want(t, deployment.ExitOK)
			mirror()
			ci.run("promote", "v2", "--servers", d.address()).want(t, deployment.ExitOK, "1 of 1 servers live and healthy")
			d.settled("v2")
			d.ask("deploy", "web").want(t, deployment.ExitRefused, frozen)
			d.saying("refused: " + frozen)
			d.stop()
			d = v.start()
			d.saying("refused: " + frozen)
			d.settled("v2")
		})
	}
	t.Run("what is shown expires", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			key := keygen(t)
			ci := s.publisher(web, key)
			ci.released("v1", "--expires-in", "7d")
			v := s.server("web-1", trust(key), oneApp)
			v.once().want(t, deployment.ExitOK, "deployed v1")
			for day := range 14 {
				time.Sleep(24 * time.Hour)
				v.untouched(deployment.ExitOK, "deployed v1", v.once)
				if stale := strings.Contains(v.says(web), "stale: the pointer expired"); stale != (day >= 7) {
					t.Errorf("day %d: stale is %v", day, stale)
				}
			}
		})
	})
}
