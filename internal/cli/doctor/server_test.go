package doctor

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/internal/service"
)

// names are all checks that a server with one app can have, in their order.
var names = []string{"agent", "systemd", "service", "user", "journal", "time sync", "webhooks", "port", "certificate", "state", "key", "clock", "bucket",
	"trust", "pointer", "receipt", "conditions", "versions", "rights", "listing", "disk", "unit", "running", "grant", "polkit", "sandbox",
	"contact", "last deployment", "releases"}

func TestServerThatIsWell(t *testing.T) {
	w := newWorld(t, newGateway(t))
	w.make()
	r := w.examine()
	var got []string
	for _, c := range r.Checks {
		got = append(got, c.Name)
		if c.Level != OK {
			t.Errorf("%s: got %s: %s, want ok", c.Name, c.Level, c.Found)
		}
		t.Logf("%-16s %s", c.Name, c.Found)
	}
	if !slices.Equal(got, names) || r.Level != OK {
		t.Errorf("got %q, level %s, want all of %q, ok", got, r.Level, names)
	}
}

// spoilt are worlds in which one thing is not as it should be.
var spoilt = []struct {
	name  string
	spoil func(*world)
	check string
	level Level
	found string
	fix   string
}{
	{"agent is down", func(w *world) {
		w.Overview = func(context.Context) (deployment.Overview, error) {
			return deployment.Overview{}, errors.New("it is not running")
		}
	}, "agent", Fail, "it is not running", "sudo systemctl enable --now towline-agent.service"},
	{"socket is not for us", func(w *world) {
		w.Overview = func(context.Context) (deployment.Overview, error) { return deployment.Overview{}, fs.ErrPermission }
	}, "agent", Warn, "not looked at: only root and the group towline", "sudo towline doctor"},
	{"agent is older", func(w *world) { w.detail.Receipt.AgentVersion = "0.0.1" }, "agent", Warn, "is version 0.0.1, this command is", "systemctl restart"},
	{"no systemd", func(w *world) { w.Systemd = func(context.Context) (int, error) { return 0, exec.ErrNotFound } }, "systemd", Fail, "apps have units", "systemd"},
	{"systemd is old", func(w *world) { w.Systemd = func(context.Context) (int, error) { return 245, nil } }, "systemd", Warn, "version 245", "os-release"},
	{"systemd is silent", func(w *world) { w.Systemd = func(context.Context) (int, error) { return 0, errors.New("odd") } }, "systemd", Warn, "not looked at", "systemctl"},
	{"agent has no unit", inspect(agentUnit, service.Description{LoadState: "not-found"}), "service", Warn, "nobody starts the agent", "install.sh"},
	{"agent is disabled", inspect(agentUnit, service.Description{LoadState: "loaded", ActiveState: "active", FileState: "disabled"}), "service", Warn, "is disabled", "systemctl enable"},
	{"agent is stale", inspect(agentUnit, service.Description{LoadState: "loaded", ActiveState: "active", Stale: true}), "service", Warn, "have changed", "daemon-reload"},
	{"agent has failed", inspect(agentUnit, service.Description{LoadState: "loaded", ActiveState: "failed"}), "service", Fail, "is failed", "systemctl restart"},
	{"agent is root", peerOf(Peer{PID: 1, UID: 0, User: "root"}), "user", Warn, "runs as root", "towline app add"},
	{"agent is another", peerOf(Peer{PID: 1, UID: 7, User: "lp"}), "user", Warn, "runs as lp", "systemctl"},
	{"no journal", peerOf(Peer{PID: 1, UID: os.Geteuid() + 990, User: "towline", Groups: []string{"towline"}}), "journal", Warn, "not in group systemd-journal", "usermod"},
	{"clock is not kept", func(w *world) { w.Synced = func() (bool, error) { return false, nil } }, "time sync", Warn, "nobody keeps", "set-ntp"},
	{"clock cannot be asked", func(w *world) { w.Synced = func() (bool, error) { return false, errors.New("odd") } }, "time sync", Warn, "not looked at: odd", "timedatectl"},
	{"clock is two minutes off", shift(2 * time.Minute), "clock", Warn, "2 min ahead of", "set-ntp"},
	{"clock is seven minutes off", shift(-7*time.Minute - 30*time.Second), "clock", Fail, "7 min behind", "set-ntp"},
	{"webhook in the clear", replace("https://hooks", "http://hooks"), "webhooks", Warn, "not https", "sudoedit"},
	{"port is closed", func(w *world) {
		i := strings.Index(w.text, "listen: ")
		w.text = w.text[:i] + "listen: \"127.0.0.1:1\"\n" + w.text[i+strings.Index(w.text[i:], "\n")+1:]
	}, "port", Fail, "nobody answers at 127.0.0.1:1: dial tcp", "ss -ltnp"},
	{"port is another's", func(w *world) { w.answer = http.StatusTeapot }, "port", Fail, "418", "ss -ltnp"},
	{"certificate has run out", shift(200 * 365 * 24 * time.Hour), "certificate", Fail, "it has expired: pin sha256=", "restart"},
	{"state is full", roomIn("state", Space{Free: 1 << 20, Inodes: 1 << 20}), "state", Fail, "1 MiB", "vacuum"},
	{"key is not there", replace("/id", "/gone"), "key", Fail, "no such file", "install"},
	{"key is open", func(w *world) { w.mode("secret", 0o644) }, "key", Fail, "mode 0644", "chmod 600"},
	{"key is a credential", func(w *world) { w.credential() }, "key", Warn, "not looked at", "systemctl start"},
	{"no bucket", func(w *world) { w.text = strings.Replace(w.text, "s3://"+w.bucket, "s3://nowhere", 1) }, "bucket", Fail, "nowhere", "sudoedit"},
	{"bucket is away", replace("endpoint=http%3A%2F%2F127.0.0.1%3A", "endpoint=http%3A%2F%2F127.0.0.2%3A1"), "bucket", Fail, "127.0.0.2", "curl"},
	{"no trust", none, "trust", Warn, "trust: none", "keygen"},
	{"another's signature", func(w *world) { w.key, _ = release.GenerateKey(nil) }, "pointer", Fail, "signed by 0 of the trusted keys", "sudoedit"},
	{"pointer is stale", func(w *world) { w.pointer.Expires = w.pointer.Created }, "pointer", Warn, "is stale since", "towline promote " + hash},
	{"pointer is nearly stale", func(w *world) { w.pointer.Expires = time.Now().Add(49 * time.Hour).UTC().Format(time.RFC3339) }, "pointer", Warn, "stale in 2 days", "towline promote"},
	{"pointer is not to be read", func(w *world) { w.policy.Statement = w.policy.Statement[1:] }, "pointer", Warn, "cannot be read", "towline init --print-policy"},
	{"receipt is not to be written", func(w *world) { w.policy.Statement = w.policy.Statement[:1] }, "receipt", Fail, "may not write web/production/receipts/web-1.json", "--for agent --server web-1"},
	{"pointer may be written", func(w *world) { w.allow("s3:PutObject", "/web/production/*") }, "rights", Warn, "may write web/production/version.json, web/production/history/0000000001.json: sig", "--print-policy"},
	{"releases may be written", func(w *world) { w.allow("s3:PutObject", "/web/releases/*") }, "rights", Warn, "may write web/releases/", "--print-policy"},
	{"pointer may be written and is unsigned", func(w *world) { none(w); w.allow("s3:PutObject", "/web/production/*") }, "rights", Fail, "who takes over one server", "--print-policy"},
	{"bucket may be listed", func(w *world) { w.allow("s3:ListBucket", "") }, "listing", Warn, "may list the whole bucket", "--print-policy"},
	{"no versions", func(w *world) { w.suspend() }, "versions", Warn, "keeps no versions", "put-bucket-versioning --bucket"},
	{"store minds nothing", func(w *world) { w.loose() }, "conditions", Warn, "does not mind", "concurrency"},
	{"disk is full", roomIn("web", Space{Free: 99 << 20, Inodes: 1 << 20}), "disk", Fail, "a release needs 164 MiB", "towline prune web"},
	{"disk fills up", roomIn("web", Space{Free: 200 << 20, Inodes: 1 << 20}), "disk", Warn, "200 MiB", "towline prune web"},
	{"no inodes", roomIn("web", Space{Free: 50 << 30, Inodes: 900}), "disk", Fail, "900 inodes", "towline prune web"},
	{"unit runs as root", grants(Grants{Findings: []Finding{{Fail, "web.service has no User="}}}), "unit", Fail, "no User=", "systemctl edit web.service"},
	{"unit is disabled", grants(Grants{Findings: []Finding{{Warn, "web.service is disabled: systemctl enable web.service"}}}), "unit", Warn, "disabled", "sudo systemctl enable web.service"},
	{"unit cannot be asked", func(w *world) {
		w.Grants = func(context.Context, config.App) (Grants, error) { return Grants{}, errors.New("no bus") }
	}, "unit", Warn, "not looked at: no bus", "towline app add web --dry-run"},
	{"unit has failed", inspect("web.service", service.Description{LoadState: "loaded", ActiveState: "failed"}), "running", Fail, "is failed", "journalctl"},
	{"unit is off", inspect("web.service", service.Description{LoadState: "loaded", ActiveState: "inactive"}), "running", Warn, "inactive", "systemctl start"},
	{"nothing is granted", grants(Grants{Missing: []string{"make /etc/polkit-1/rules.d/50-towline-web.rules"}}), "grant", Fail, "not granted: make /etc/polkit-1", "sudo towline app add web"},
	{"grants are not to be seen", grants(Grants{Unseen: errors.New("only root")}), "grant", Warn, "not looked at", "sudo towline doctor"},
	{"polkit says no", func(w *world) { w.MayRestart = func(context.Context, Peer, string) (bool, error) { return false, nil } }, "polkit", Fail, "does not let", "app add web"},
	{"polkit says nothing", func(w *world) {
		w.MayRestart = func(context.Context, Peer, string) (bool, error) { return false, exec.ErrNotFound }
	}, "polkit", Warn, "not looked at", "polkitd"},
	{"sandbox is closed", func(w *world) { w.ReadOnly = func(Peer, string) (bool, error) { return true, nil } }, "sandbox", Fail, "read-only", "systemctl restart towline-agent"},
	{"not root", func(w *world) { w.UID = 1000 }, "polkit", Warn, "not looked at", "sudo towline doctor"},
	{"no look for long", func(w *world) { w.detail.Receipt.Seen = "2026-01-01T00:00:00Z" }, "contact", Fail, "was read last", "journalctl"},
	{"never looked", func(w *world) { w.detail.Receipt.Seen, w.detail.Receipt.Status = "", "bucket unreachable" }, "contact", Fail, "has not read the pointer yet: bucket unreachable", "journalctl"},
	{"something to say", func(w *world) { w.detail.Receipt.Status = "stale" }, "contact", Warn, "stale", "towline status web"},
	{"agent does not say", func(w *world) {
		w.Detail = func(context.Context, string) (deployment.Detail, error) {
			return deployment.Detail{}, errors.New("gone")
		}
	}, "contact", Warn, "not looked at: gone", "towline status web"},
	{"on hold", func(w *world) { w.detail.Receipt.Held = "the launch" }, "hold", Warn, "the launch", "towline resume web"},
	{"rolled back", func(w *world) { w.detail.Receipt.Deployment.Outcome = deployment.RolledBack }, "last deployment", Warn, "rolled back from #1", "towline deploy web --force"},
	{"failed", func(w *world) { w.detail.Receipt.Deployment.Outcome = deployment.Failed }, "last deployment", Warn, "failed #1", "towline deploy web"},
	{"broken", func(w *world) { w.detail.Receipt.Deployment.Outcome = deployment.Broken }, "last deployment", Fail, "broken #1", "towline logs web"},
	{"live release changed", drift(true), "releases", Fail, "is live and is not as it was unpacked", "deploy web --force"},
	{"old release changed", drift(false), "releases", Warn, "1 release on disk changed", "towline verify web"},
}

func TestServersThatAreNotWell(t *testing.T) {
	g := newGateway(t)
	for _, test := range spoilt {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, g)
			test.spoil(w)
			w.make()
			r := w.examine()
			c := find(r, test.check)
			if c.Level != test.level || !strings.Contains(c.Found, test.found) || !strings.Contains(c.Fix, test.fix) {
				t.Errorf("%s: got %s: %q, fix %q, want %s: %q, %q", test.check, c.Level, c.Found, c.Fix, test.level, test.found, test.fix)
			}
			if (test.level == Fail) != (r.Fail > 0) && test.name != "agent is down" || test.level == Warn && r.Warn == 0 {
				t.Errorf("got %d warn, %d fail, want what %s says", r.Warn, r.Fail, test.level)
			}
		})
	}
	// Each check is spoilt once at least.
	for _, name := range names {
		if !slices.ContainsFunc(spoilt, func(s struct {
			name  string
			spoil func(*world)
			check string
			level Level
			found string
			fix   string
		}) bool {
			return s.check == name
		}) {
			t.Errorf("no world in which %q is not ok", name)
		}
	}
}

func inspect(unit string, d service.Description) func(*world) {
	return func(w *world) {
		before := w.Inspect
		w.Inspect = func(ctx context.Context, name string) (service.Description, error) {
			if name == unit {
				return d, nil
			}
			return before(ctx, name)
		}
	}
}

func peerOf(p Peer) func(*world) {
	return func(w *world) { w.Peer = func(context.Context, string) (Peer, error) { return p, nil } }
}

func shift(d time.Duration) func(*world) {
	return func(w *world) {
		w.Now = func() time.Time { return time.Now().Add(d) }
		w.detail.Receipt.Seen = time.Now().Add(d).UTC().Format(time.RFC3339)
	}
}

func replace(from, to string) func(*world) {
	return func(w *world) {
		if !strings.Contains(w.text, from) {
			w.t.Fatalf("no %q in\n%s", from, w.text)
		}
		w.text = strings.Replace(w.text, from, to, 1)
	}
}

func none(w *world) {
	i, j := strings.Index(w.text, "trust: "), strings.Index(w.text, "listen: ")
	w.text = w.text[:i] + "trust: none\n" + w.text[j:]
}

// roomIn gives the filesystem below which path ends so this room; state is the one of the agent's own.
func roomIn(of string, s Space) func(*world) {
	return func(w *world) {
		w.Space = func(path string) (Space, error) {
			if strings.HasSuffix(path, "/web") == (of == "web") {
				return s, nil
			}
			return Space{Free: 50 << 30, Inodes: 1 << 20}, nil
		}
	}
}

func grants(g Grants) func(*world) {
	return func(w *world) { w.Grants = func(context.Context, config.App) (Grants, error) { return g, nil } }
}

func drift(live bool) func(*world) {
	return func(w *world) {
		w.detail.Drift = []deployment.Verification{{Name: "1-e02371ab6db3", Live: live, State: deployment.Drifted}}
	}
}

func (w *world) mode(name string, mode fs.FileMode) {
	if err := os.Chmod(w.home()+"/"+name, mode); err != nil {
		w.t.Fatal(err)
	}
}

// home is where the key and the state lie.
func (w *world) home() string {
	_, rest, _ := strings.Cut(w.text, "state: ")
	dir, _, _ := strings.Cut(rest, "\n")
	return dir
}

func (w *world) credential() {
	replace(w.home()+"/id", "id")(w)
	w.Credential = func(name string) string { return w.home() + "/credentials/" + name }
}

func (w *world) allow(action, at string) {
	w.policy.Statement = append(w.policy.Statement, bucket.Statement{Effect: "Allow", Principal: &bucket.Principal{AWS: "agent"},
		Action: []string{action}, Resource: []string{"arn:aws:s3:::" + w.bucket + at}})
}

func (w *world) suspend() {
	status, answer := w.store.Do(w.t, "PUT", "/"+w.bucket+"?versioning=", []byte(
		`<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Suspended</Status></VersioningConfiguration>`))
	if status/100 != 2 {
		w.t.Fatalf("suspend versioning: got status %d: %s", status, answer)
	}
}
