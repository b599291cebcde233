package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/release"
)

// asCI is the publisher's half in a world whose agent's key is CI's.
func (w *world) asCI() *Publisher {
	w.t.Helper()
	b, err := bucket.Open(w.t.Context(), bucket.Options{URL: w.Settings.Bucket, AccessKeyID: w.agent.AccessKey, SecretAccessKey: w.agent.SecretKey})
	if err != nil {
		w.t.Fatal(err)
	}
	return &Publisher{Now: w.Now, Bucket: b.(bucket.Upkeep), Trust: w.Settings.Apps[0].Trust,
		Want: release.Want{App: "web", Environment: "production", Prefix: "web"}}
}

func TestPublisher(t *testing.T) {
	g := newGateway(t)
	drop := func(action string) func(*world) {
		return func(w *world) {
			var kept []bucket.Statement
			for _, s := range w.policy.Statement {
				if s.Action[0]+" "+strings.Join(s.Resource, " ") != action && !strings.Contains(s.Action[0]+" "+strings.Join(s.Resource, " "), action) {
					kept = append(kept, s)
				}
			}
			if len(kept) == len(w.policy.Statement) {
				t.Fatalf("no statement %q", action)
			}
			w.policy.Statement = kept
		}
	}
	for _, test := range []struct {
		name  string
		spoil func(*world)
		check string // empty: all is well
		level Level
		found string
	}{
		{"well", func(*world) {}, "", OK, ""},
		{"no trust", none, "trust", Warn, "trust: none"},
		{"clock", shift(6 * time.Minute), "clock", Fail, "6 min"},
		{"another's signature", func(w *world) { w.key, _ = release.GenerateKey(nil) }, "pointer", Fail, "signed by 0"},
		{"may not create", drop("s3:PutObject arn:aws:s3:::WORLD/web/releases/*"), "create", Fail, "may not create releases"},
		{"may not upload", drop("s3:PutObject arn:aws:s3:::WORLD/web/releases/*"), "upload", Fail, "may not upload"},
		{"may not move", drop("s3:PutObject arn:aws:s3:::WORLD/web/production/version.json"), "move", Fail, "may not move the pointer"},
		{"may not list releases", func(w *world) { w.unlist("web/releases/") }, "releases", Fail, "may not list web/releases/"},
		{"may not list receipts", func(w *world) { w.unlist("web/production/receipts/") }, "receipts", Warn, "may not list web/production/receipts/"},
		{"may write receipts", func(w *world) { w.allow("s3:PutObject", "/web/production/receipts/*") }, "rights", Warn, "pass for a server"},
		{"may list all", func(w *world) { w.allow("s3:ListBucket", "") }, "listing", Warn, "may list the whole bucket"},
		{"may not write history", func(w *world) { w.noHistory() }, "history", Fail, "may not write the history"},
		{"no versions", func(w *world) { w.suspend() }, "versions", Warn, "keeps no versions"},
		{"nothing published", func(w *world) { w.empty = true }, "create", Warn, "shows with the first one"},
		{"nothing published, move", func(w *world) { w.empty = true }, "move", Warn, "shows with the first one"},
		{"store minds nothing", func(w *world) { w.loose() }, "conditions", Warn, "does not mind"},
		{"store minds nothing, move", func(w *world) { w.loose() }, "move", Warn, "would move the pointer"},
		{"bucket is away", replace("endpoint=http%3A%2F%2F127.0.0.1%3A", "endpoint=http%3A%2F%2F127.0.0.2%3A1"), "bucket", Fail, "127.0.0.2"},
	} {
		t.Run(strings.ReplaceAll(test.name, ",", ""), func(t *testing.T) {
			w := newWorld(t, g)
			policy := bucket.Scope{Bucket: w.bucket, Prefix: "web", Environment: "production"}.BucketPolicy("agent", "")
			w.policy = &policy
			for i := range w.policy.Statement {
				for j, at := range w.policy.Statement[i].Resource {
					w.policy.Statement[i].Resource[j] = strings.Replace(at, w.bucket, "WORLD", 1)
				}
			}
			test.spoil(w)
			for i := range w.policy.Statement {
				for j, at := range w.policy.Statement[i].Resource {
					w.policy.Statement[i].Resource[j] = strings.Replace(at, "WORLD", w.bucket, 1)
				}
			}
			w.make()
			before := w.content()
			r := NewReport("")
			w.asCI().Run(t.Context(), r)
			if after := w.content(); after != before {
				t.Errorf("the bucket has changed: got\n%s\nwant\n%s", after, before)
			}
			if test.check == "" {
				if r.Level != OK || len(r.Checks) != 14 {
					t.Errorf("got %s, %d checks, want ok, 14: %+v", r.Level, len(r.Checks), r.Checks)
				}
				return
			}
			if c := find(r, test.check); c.Level != test.level || !strings.Contains(c.Found, test.found) || c.Fix == "" {
				t.Errorf("%s: got %s: %q, fix %q, want %s: %q and a fix", test.check, c.Level, c.Found, c.Fix, test.level, test.found)
			}
		})
	}
}

// unlist takes one listing away.
func (w *world) unlist(prefix string) {
	for i, s := range w.policy.Statement {
		if strings.HasPrefix(s.Condition["StringLike"]["s3:prefix"], prefix) {
			w.policy.Statement[i].Action = []string{"s3:GetBucketLocation"}
			w.policy.Statement[i].Condition = nil
			return
		}
	}
	w.t.Fatalf("no statement lists %s", prefix)
}

// noHistory leaves the releases as what may be created.
func (w *world) noHistory() {
	for i, s := range w.policy.Statement {
		if s.Action[0] == "s3:PutObject" && len(s.Resource) == 2 {
			w.policy.Statement[i].Resource = s.Resource[:1]
			return
		}
	}
	w.t.Fatal("no statement creates history")
}

// A bucket that is a directory: what counts is what the agent's user may do with the files.
func TestDirectoryBucket(t *testing.T) {
	g := newGateway(t)
	for _, test := range []struct {
		name  string
		spoil func(*world)
		check string
		level Level
		found string
	}{
		{"well", func(w *world) {}, "receipt", OK, "towline may write in"},
		{"well, rights", func(w *world) {}, "rights", OK, "the agent may not write"},
		{"no receipt", func(w *world) { w.give("web/production/receipts", 0o755) }, "receipt", Fail, "may not write in"},
		{"too wide", func(w *world) { w.give("web/releases", 0o777) }, "rights", Warn, "the agent may write"},
		{"too wide and unsigned", func(w *world) { none(w); w.give("web/releases", 0o777) }, "rights", Fail, "the agent may write"},
		{"gone", func(w *world) { w.text = strings.Replace(w.text, w.dir, w.dir+"/gone", 1) }, "bucket", Fail, "no such directory"},
		{"agent is down", func(w *world) {
			w.Peer = nil
			w.Overview = nil
		}, "receipt", Warn, "not looked at"},
	} {
		t.Run(strings.ReplaceAll(test.name, ",", ""), func(t *testing.T) {
			w := newWorld(t, g)
			w.dir = t.TempDir()
			replace(fmt.Sprintf("bucket: %q", w.store.URL(w.bucket)), "bucket: file://"+w.dir)(w)
			for _, folder := range []string{"web/production/receipts", ".towline"} {
				w.give(folder, 0o777)
			}
			test.spoil(w)
			if w.Peer == nil {
				spoilt[0].spoil(w)
			}
			w.make()
			r := w.examine()
			if c := find(r, test.check); c.Level != test.level || !strings.Contains(c.Found, test.found) {
				t.Errorf("%s: got %s: %q, want %s: %q", test.check, c.Level, c.Found, test.level, test.found)
			}
		})
	}
}

// give makes a folder of the bucket with this mode.
func (w *world) give(folder string, mode os.FileMode) {
	path := filepath.Join(w.dir, folder)
	if err := os.MkdirAll(path, 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		w.t.Fatal(err)
	}
}

// A key that systemd hands over, one that the agent's environment holds, and none.
func TestWhereTheKeyIsFound(t *testing.T) {
	g := newGateway(t)
	t.Run("credential", func(t *testing.T) {
		w := newWorld(t, g)
		home := w.home()
		replace(home+"/id", "id")(w)
		replace(home+"/secret", "secret")(w)
		w.Credential = func(name string) string { return home + "/" + name }
		w.make()
		if c := find(w.examine(), "receipt"); c.Level != OK {
			t.Errorf("got %s: %s, want ok", c.Level, c.Found)
		}
	})
	cut := func(w *world) {
		i, j := strings.Index(w.text, "credentials: "), strings.Index(w.text, "notify: ")
		w.text = w.text[:i] + w.text[j:]
	}
	t.Run("environment", func(t *testing.T) {
		w := newWorld(t, g)
		cut(w)
		w.Environ = func(Peer) ([]string, error) {
			return []string{"AWS_ACCESS_KEY_ID=" + w.agent.AccessKey, "AWS_SECRET_ACCESS_KEY=" + w.agent.SecretKey}, nil
		}
		w.make()
		r := w.examine()
		if c := find(r, "key"); c.Level != OK || find(r, "receipt").Level != OK {
			t.Errorf("got %s: %s, want ok: %+v", c.Level, c.Found, r.Checks)
		}
	})
	t.Run("none", func(t *testing.T) {
		w := newWorld(t, g)
		cut(w)
		w.make()
		r := w.examine()
		if c := find(r, "key"); c.Level != Warn || find(r, "bucket").Level != Fail {
			t.Errorf("got %s: %s, want a warning, and no bucket: %+v", c.Level, c.Found, r.Checks)
		}
	})
}

// Everything of a server's half that this machine can be asked answers without an error that it has no words for.
func TestThisMachine(t *testing.T) {
	m := NewMachine()
	if s, err := m.Space(filepath.Join(t.TempDir(), "not", "there")); err != nil || s.Free <= 0 {
		t.Errorf("space: got %+v, %v, want some", s, err)
	}
	if _, err := m.Synced(); err != nil {
		t.Errorf("synced: %v", err)
	}
	if _, err := m.Environ(Peer{PID: os.Getpid()}); err != nil {
		t.Errorf("environ: %v", err)
	}
	if closed, err := m.ReadOnly(Peer{PID: os.Getpid()}, t.TempDir()); err != nil || closed {
		t.Errorf("read-only: got %v, %v, want false", closed, err)
	}
	for path, want := range map[string]bool{"/proc": false, t.TempDir(): true} {
		if got := mayWrite(path, Peer{UID: os.Geteuid()}); got != (want || os.Geteuid() == 0) {
			t.Errorf("may write %s: got %v, want %v", path, got, want)
		}
	}
	if mayWrite("/etc", Peer{UID: 4711, GIDs: []int{4711}}) {
		t.Error("a stranger may write in /etc")
	}
}
