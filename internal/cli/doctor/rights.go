package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/release"
)

// rights tries what the agent's key may do: its receipt it must be able to write, and nothing else.
func (s *Server) rights(ctx context.Context, t topic, st store, app config.App, known release.Pointer) {
	if st.releases == nil {
		return
	}
	if directory(st.releases.URL()) {
		s.modes(t, st, app)
		return
	}
	want := release.Want{App: app.App, Environment: app.Environment, Prefix: app.Prefix}
	minds := s.receipt(ctx, t, st, app, want)
	kept(ctx, t, st.releases, app.Pointer)
	switch {
	case s.Settings.Receipts.Off || s.Settings.Receipts.Bucket != "":
		t.ok("rights", "what else this key may write was not tried: that needs a receipt in the same bucket")
	case minds == bucket.Granted:
		s.wide(ctx, t, st, app, known, want)
	case minds == bucket.Wrote:
		t.warn("rights", policy(st.releases, want, s.Settings.Server), "what else this key may write was not tried: this store would do it")
	}
	if _, err := st.releases.List(ctx, "towline-doctor/"); err == nil {
		t.warn("listing", policy(st.releases, want, s.Settings.Server), "this key may list the whole bucket; an agent needs no listing")
	} else if errors.Is(err, fs.ErrPermission) {
		t.ok("listing", "this key may not list the bucket, as is right")
	}
}

// receipt tries to write the server's own receipt, and learns whether the store minds conditions.
func (s *Server) receipt(ctx context.Context, t topic, st store, app config.App, want release.Want) bucket.Leave {
	if s.Settings.Receipts.Off {
		t.ok("receipt", "receipts are off: CI waits for this server by its stream only")
		return ""
	}
	if st.receipts == nil {
		return ""
	}
	key := release.ReceiptKey(app.Prefix, app.Environment, s.Settings.Server)
	fix := policy(st.receipts, want, s.Settings.Server)
	data, _, err := st.receipts.Get(ctx, key, 128<<10)
	absent := errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
	switch {
	case absent && s.peer == nil:
		t.unseen("receipt", "sudo systemctl start "+agentUnit, "there is no %s yet; the agent writes it when it runs", key)
		return ""
	case absent:
		// What the agent says of itself is what belongs there, should this store not mind the condition.
		short, cancel := context.WithTimeout(ctx, patience)
		detail, derr := s.Detail(short, app.Key)
		cancel()
		if data, err = json.Marshal(detail.Receipt); derr != nil || err != nil {
			t.unseen("receipt", "towline status "+app.Key, "there is no %s, and the agent says nothing of the app: %v", key, cmp.Or(derr, err))
			return ""
		}
	case err != nil:
		t.fail("receipt", fix, "%v", err)
		return ""
	}
	leave, err := st.receipts.Try(ctx, key, data, bucket.IfOther)
	switch {
	case err != nil:
		t.unseen("receipt", fix, "%v", err)
	case leave == bucket.Denied:
		t.fail("receipt", fix, "this key may not write %s: CI never hears how a deployment ended here", key)
	case absent:
		t.warn("receipt", "journalctl --unit "+agentUnit+" --lines 20 --no-pager", "this key may write %s, and the agent has left none yet", key)
	default:
		t.ok("receipt", "%s is there and may be written", key)
	}
	conditions(t, leave)
	return leave
}

// conditions says whether the store minds them.
func conditions(t topic, leave bucket.Leave) {
	switch leave {
	case bucket.Granted:
		t.ok("conditions", "the store minds conditional writes")
	case bucket.Wrote:
		t.warn("conditions", "grep --line-number concurrency: .github/workflows/*.yml", "the store does not mind conditional writes: let only one run of CI "+
			"publish at a time, by a concurrency: group of the workflow")
	}
}

// kept looks whether an overwritten pointer can come back.
func kept(ctx context.Context, t topic, b bucket.Upkeep, key string) {
	kept, err := b.Kept(ctx, key)
	name, _, nameErr := bucket.Name(b.URL())
	fix := "aws s3api put-bucket-versioning --bucket " + name + " --versioning-configuration Status=Enabled"
	if at := endpoint(b.URL()); nameErr == nil && strings.Contains(b.URL(), "endpoint=") {
		fix += " --endpoint-url " + word(at)
	}
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		t.ok("versions", "a directory keeps none; the history has every pointer")
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission):
		t.unseen("versions", fix, "whether the bucket keeps versions shows with the first pointer")
	case err != nil:
		t.unseen("versions", fix, "%v", err)
	case !kept:
		t.warn("versions", fix, "the bucket keeps no versions: an overwritten or deleted %s cannot be restored there", filepath.Base(key))
	default:
		t.ok("versions", "the bucket keeps versions of the pointer")
	}
}

// wide tries what the agent's key must not be able to write, each with the bytes that are there. The store was seen to mind
// the condition.
func (s *Server) wide(ctx context.Context, t topic, st store, app config.App, known release.Pointer, want release.Want) {
	keys := []string{app.Pointer}
	if known.Seq > 0 {
		keys = append(keys, release.HistoryKey(app.Prefix, app.Environment, known.Seq),
			release.ManifestKey(app.Prefix, known.Release.Hash, known.Artifact.SHA256))
	}
	var open, closed []string
	for _, key := range keys {
		data, _, err := st.releases.Get(ctx, key, release.MaxEnvelope)
		if err != nil {
			continue // nothing to try it on
		}
		switch leave, err := st.releases.Try(ctx, key, data, bucket.IfOther); {
		case err != nil:
			t.unseen("rights", policy(st.releases, want, s.Settings.Server), "%v", err)
			return
		case leave == bucket.Denied:
			closed = append(closed, key)
		default:
			open = append(open, key)
		}
	}
	s.judge(t, app, open, closed, policy(st.releases, want, s.Settings.Server))
}

// judge weighs what the agent may write beside its receipt: with signatures that is a nuisance, without it is all.
func (s *Server) judge(t topic, app config.App, open, closed []string, fix string) {
	switch list := strings.Join(open, ", "); {
	case len(open) > 0 && app.Trust.None():
		t.fail("rights", fix, "the agent may write %s, and trust: none: who takes over one server decides what all of them run", list)
	case len(open) > 0:
		t.warn("rights", fix, "the agent may write %s: signatures stop what it forges, but it can get in the way of others", list)
	case len(closed) > 0:
		t.ok("rights", "the agent may not write %s", strings.Join(closed, ", "))
	default:
		t.ok("rights", "nothing is published yet that it should not be able to write")
	}
}

// modes looks at the files of a directory that the agent, who is somebody else, sees.
func (s *Server) modes(t topic, st store, app config.App) {
	if s.peer == nil {
		t.unseen("receipt", "sudo systemctl start "+agentUnit, "what the agent may write in the bucket's directory is known once it answers")
		return
	}
	root := strings.TrimPrefix(st.releases.URL(), "file://")
	may := func(root, key string) bool { return mayWrite(nearest(filepath.Join(root, key)), *s.peer) }
	if !s.Settings.Receipts.Off && st.receipts != nil && directory(st.receipts.URL()) {
		at := strings.TrimPrefix(st.receipts.URL(), "file://")
		folder := release.ReceiptsPrefix(app.Prefix, app.Environment)
		if may(at, folder) && may(at, ".towline") {
			t.ok("receipt", "%s may write in %s", s.peer.User, filepath.Join(at, folder))
		} else {
			t.fail("receipt", fmt.Sprintf("sudo install -d -o %s %s %s", word(s.peer.User), word(filepath.Join(at, folder)), word(filepath.Join(at, ".towline"))),
				"%s may not write in %s or in .towline beside it: no receipt", s.peer.User, filepath.Join(at, folder))
		}
	}
	t.ok("versions", "a directory keeps none; the history has every pointer")
	if s.peer.UID == 0 {
		return // root may write everywhere
	}
	var open, closed []string
	for _, key := range []string{filepath.Dir(app.Pointer), release.ReleasesPrefix(app.Prefix)} {
		if may(root, key) {
			open = append(open, filepath.Join(root, key))
		} else {
			closed = append(closed, filepath.Join(root, key))
		}
	}
	s.judge(t, app, open, closed, "sudo chown -R root "+strings.Join(open, " "))
}

// nearest is the path, or the folder above it that is there.
func nearest(path string) string {
	for {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// mayWrite reports whether the process may make files in a directory, by its owner, group and mode.
func mayWrite(dir string, p Peer) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	st := info.Sys().(*syscall.Stat_t)
	mode := info.Mode().Perm()
	switch {
	case p.UID == 0:
		return true
	case int(st.Uid) == p.UID:
		return mode&0o300 == 0o300
	case slices.Contains(p.GIDs, int(st.Gid)):
		return mode&0o030 == 0o030
	}
	return mode&0o003 == 0o003
}
