package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/release"
)

// store is the bucket as the agent sees it; nil buckets were not to be had.
type store struct {
	releases, receipts bucket.Upkeep
}

// open opens the bucket with the agent's own key and looks whether it is there.
func (s *Server) open(ctx context.Context, t topic) store {
	o := bucket.Options{URL: s.Settings.Bucket}
	if !s.key(t, &o) {
		return store{}
	}
	edit := "sudoedit " + word(s.Settings.Path)
	dial := func(url string) bucket.Upkeep {
		o.URL = url
		b, err := bucket.Open(ctx, o)
		if err != nil {
			t.fail("bucket", edit, "%v", err)
			return nil
		}
		up := b.(bucket.Upkeep)
		if !reach(ctx, t, s.Now, up, edit) {
			return nil
		}
		return up
	}
	st := store{releases: dial(s.Settings.Bucket)}
	st.receipts = st.releases
	if s.Settings.Receipts.Bucket != "" {
		st.receipts = dial(s.Settings.Receipts.Bucket)
	}
	return st
}

// key finds the key that the agent uses. False: there is none to look with.
func (s *Server) key(t topic, o *bucket.Options) bool {
	if directory(s.Settings.Bucket) {
		return true
	}
	c := s.Settings.Credentials
	if c == (config.Credentials{}) {
		return s.chain(t, o)
	}
	for _, half := range []struct {
		name string
		into *string
	}{{c.AccessKeyID, &o.AccessKeyID}, {c.SecretAccessKey, &o.SecretAccessKey}} {
		path := half.name
		if !strings.Contains(path, "/") {
			path = s.Credential(path)
		}
		text, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrPermission):
			t.unseen("key", s.again(), "%s is not for us to read, so that nothing is known of the bucket", path)
			return false
		case errors.Is(err, fs.ErrNotExist) && path != half.name:
			t.unseen("key", "sudo systemctl start "+agentUnit, "%s is a credential of %s, which does not run", half.name, agentUnit)
			return false
		case err != nil:
			t.fail("key", "sudo install -m 600 -o "+agentUser+" /dev/stdin "+word(path), "%v", err)
			return false
		}
		if *half.into = strings.TrimSpace(string(text)); *half.into == "" {
			t.fail("key", "sudoedit "+word(path), "%s is empty", path)
			return false
		}
		if info, err := os.Stat(path); err == nil && path == half.name {
			if mode := info.Mode().Perm(); mode&0o077 != 0 {
				t.fail("key", "sudo chmod 600 "+word(path), "others than its owner may use %s (mode %04o): the agent refuses it", path, mode)
				return false
			}
			if owner := int(info.Sys().(*syscall.Stat_t).Uid); s.peer != nil && owner != 0 && owner != s.peer.UID {
				t.fail("key", "sudo chown "+word(s.peer.User)+" "+word(path), "%s belongs to user %d: the agent refuses it", path, owner)
				return false
			}
		}
	}
	t.ok("key", "from %s and %s", c.AccessKeyID, c.SecretAccessKey)
	return true
}

// chain takes the key out of the agent's environment. Whatever else the agent may use, we cannot pose as it.
func (s *Server) chain(t topic, o *bucket.Options) bool {
	if s.peer != nil && s.peer.PID > 0 {
		env, err := s.Environ(*s.peer)
		if err == nil {
			for _, pair := range env {
				name, value, _ := strings.Cut(pair, "=")
				switch name {
				case "AWS_ACCESS_KEY_ID":
					o.AccessKeyID = value
				case "AWS_SECRET_ACCESS_KEY":
					o.SecretAccessKey = value
				case "AWS_REGION":
					o.Region = cmp.Or(o.Region, value)
				case "AWS_SESSION_TOKEN": // cannot be told to the bucket alone
					o.AccessKeyID, o.SecretAccessKey = "", ""
					t.unseen("key", "sudoedit "+word(s.Settings.Path), "the agent has a passing key in its environment; write credentials: for one that stays")
					return false
				}
			}
			if o.AccessKeyID != "" && o.SecretAccessKey != "" {
				t.ok("key", "from the agent's environment")
				return true
			}
		}
	}
	o.AccessKeyID, o.SecretAccessKey = "", ""
	t.warn("key", "sudoedit "+word(s.Settings.Path), "no credentials: in the configuration, and none to be seen in the agent's environment: "+
		"what follows was asked with this shell's own")
	return true
}

// directory reports a bucket that is one.
func directory(url string) bool { return strings.HasPrefix(url, "file://") }

// reach looks whether the bucket answers, and what time it is there.
func reach(ctx context.Context, t topic, now func() time.Time, b bucket.Upkeep, edit string) bool {
	begun := time.Now()
	if directory(b.URL()) {
		if err := b.Check(ctx); err != nil {
			fix := edit
			if errors.Is(err, bucket.ErrNoBucket) {
				fix = "sudo mkdir -p " + word(strings.TrimPrefix(b.URL(), "file://"))
			}
			t.fail("bucket", fix, "%v", err)
			return false
		}
		t.ok("bucket", "%s is there", b.URL())
		return true
	}
	// The clock first: a bucket refuses whoever is too far off, and says it badly.
	there, err := b.Clock(ctx)
	took := time.Since(begun)
	if err == nil {
		off := now().Sub(there).Truncate(time.Second)
		way := "ahead of"
		if off < 0 {
			way = "behind"
		}
		const fix = "sudo timedatectl set-ntp true"
		switch {
		case off.Abs() >= 5*time.Minute:
			t.fail("clock", fix, "this clock is %s %s the bucket's, which refuses requests that are 15 minutes off", ago(off), way)
		case off.Abs() >= time.Minute:
			t.warn("clock", fix, "this clock is %s %s the bucket's", ago(off), way)
		default:
			t.ok("clock", "within %s of the bucket's", ago(off.Abs()+time.Second))
		}
	}
	if err := b.Check(ctx); err != nil {
		fix := edit
		if errors.Is(err, bucket.ErrUnreachable) {
			fix = "curl --verbose --head " + word(endpoint(b.URL()))
		}
		t.fail("bucket", fix, "%v", err)
		return false
	}
	t.ok("bucket", "%s answers, in %d ms", b.URL(), took.Milliseconds())
	return true
}

// endpoint is the address of a bucket's store.
func endpoint(url string) string {
	if _, rest, ok := strings.Cut(url, "endpoint="); ok {
		at, _, _ := strings.Cut(rest, "&")
		return at
	}
	return "https://s3.amazonaws.com"
}

// pointer looks at what should be live.
func (s *Server) pointer(ctx context.Context, t topic, st store, app config.App) release.Pointer {
	edit := "sudoedit " + word(s.Settings.Path)
	if app.Trust.None() {
		t.warn("trust", "towline keygen", "trust: none: whoever may write in the bucket decides what runs here")
	} else {
		t.ok("trust", "%s: %s", counted(len(app.Trust.Keys()), "key"), strings.Join(app.Trust.Keys(), ", "))
	}
	if st.releases == nil {
		return release.Pointer{}
	}
	want := release.Want{App: app.App, Environment: app.Environment, Prefix: app.Prefix}
	return look(ctx, t, st.releases, app.Pointer, app.Trust, want, s.Now(), edit)
}

// look reads and verifies a pointer.
func look(ctx context.Context, t topic, b bucket.Upkeep, key string, trust release.Trust, want release.Want, now time.Time, edit string) (p release.Pointer) {
	data, _, err := b.Get(ctx, key, release.MaxEnvelope)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t.ok("pointer", "nothing is published yet: there is no %s", key)
		return p
	case errors.Is(err, fs.ErrPermission) && !directory(b.URL()):
		t.warn("pointer", policy(b, want, ""), "%s cannot be read: nothing is published yet, or this key may not; stores tell the two apart only to those who may list", key)
		return p
	case err != nil:
		t.fail("pointer", "sudo chmod -R a+rX "+word(strings.TrimPrefix(b.URL(), "file://")), "%v", err)
		return p
	}
	v, err := trust.Pointer(data, want)
	if err != nil {
		t.fail("pointer", edit, "%s: %v", key, err)
		return p
	}
	p = v.Pointer()
	if v.Plain() {
		t.ok("pointer", "%s, unsigned", release.ShortHash(p.Release.Hash))
		return p
	}
	name := fmt.Sprintf("#%d %s", p.Seq, release.ShortHash(p.Release.Hash))
	by := "unsigned"
	if len(v.Signers()) > 0 {
		by = "signed by key " + strings.Join(v.Signers(), ", ")
	}
	expires, err := time.Parse(time.RFC3339, p.Expires)
	again := fmt.Sprintf("towline promote %s --app %s --environment %s --bucket %s", p.Release.Hash, want.App, want.Environment, word(b.URL()))
	switch left := expires.Sub(now); {
	case err != nil || v.Expired(now):
		t.warn("pointer", again, "%s is stale since %s: what runs stays, but a new server does not install it", name, p.Expires)
	case left < 14*24*time.Hour:
		t.warn("pointer", again, "%s, %s, is stale in %s", name, by, ago(left))
	default:
		t.ok("pointer", "%s, %s, good for %s", name, by, ago(left))
	}
	return p
}

// policy is the command that prints what a key should be allowed.
func policy(b bucket.Bucket, want release.Want, server string) string {
	text := fmt.Sprintf("towline init --print-policy --app %s --environment %s --bucket %s", want.App, want.Environment, word(b.URL()))
	if want.Prefix != want.App {
		text += " --prefix " + word(want.Prefix)
	}
	if server != "" {
		text += " --for agent --server " + server
	}
	return text
}
