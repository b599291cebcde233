package deploy

import (
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
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// pieces brings releases of two files frame by frame: hash, which every release has another of, and same.
type pieces struct {
	*rig
	fits    map[string]bool // digests of trees that fit
	whole   bool            // the store gives no parts
	base    []string        // what was recycled, "" for nothing
	others  [][]Directory   // what could be copied from
	taken   []string        // base of the stages that were taken up
	trouble func(ctx context.Context, base string) error
	write   int64
}

func (p *pieces) Plan(_ context.Context, to release.Pointer) (Plan, error) {
	if p.whole {
		return nil, errors.ErrUnsupported
	}
	return &piece{pieces: p, to: to}, nil
}

type piece struct {
	*pieces
	to     release.Pointer
	pulled int64
	digest string
}

func (p *piece) Fits(digest string) bool               { return p.fits[digest] }
func (p *piece) Lacks(string, []string) (int64, int64) { return 7, p.write }
func (p *piece) Pulled() int64                         { return p.pulled }
func (p *piece) TakeUp(_ context.Context, stage *os.Root, notes *os.File, base string) (int64, error) {
	p.taken = append(p.taken, base)
	if notes == nil {
		return 0, errors.New("there are no notes")
	}
	if _, err := stage.Stat("half"); err != nil {
		return 0, nil
	}
	return 3, stage.Remove("half")
}
func (p *piece) Keep() error { p.fits[p.digest] = true; return nil }
func (p *piece) Bring(ctx context.Context, stage *os.Root, b Bringing) (Brought, error) {
	p.base, p.others = append(p.base, b.Base), append(p.others, b.Others)
	p.pulled += 7
	hash := p.to.Release.Hash
	switch b.Base {
	case Begun:
	case "":
		must(p.t, stage.WriteFile("same", []byte("same"), 0o644))
	default:
		must(p.t, stage.Remove("hash"))
	}
	if p.trouble != nil {
		if err := p.trouble(ctx, b.Base); err != nil {
			return Brought{}, err
		}
	}
	must(p.t, stage.WriteFile("hash", []byte(hash), 0o644))
	// What the release should hold, whatever it was made of.
	want, err := os.OpenRoot(p.t.TempDir())
	must(p.t, err)
	defer want.Close()
	must(p.t, want.WriteFile("hash", []byte(hash), 0o644))
	must(p.t, want.WriteFile("same", []byte("same"), 0o644))
	listing, err := artifact.ListTree(context.Background(), want, nil)
	must(p.t, err)
	p.digest = listing.Digest()
	p.listings[p.digest] = listing
	return Brought{Digest: p.digest, Files: 1234, Written: 1}, nil
}

// recycling is a rig that brings releases frame by frame, with so many deployed.
func recycling(t *testing.T, change func(*Options), hashes ...string) (*rig, *pieces) {
	t.Helper()
	p := &pieces{fits: map[string]bool{}}
	r := newRig(t, func(o *Options) {
		o.Frames = p
		if change != nil {
			change(o)
		}
	})
	p.rig = r
	for i, hash := range hashes {
		r.publish(uint64(i+1), hash)
		r.once(deployment.Deployed)
	}
	return r, p
}

func (r *rig) names() []string {
	r.t.Helper()
	entries, err := os.ReadDir(filepath.Join(r.root, "app", "releases"))
	must(r.t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// fetchedText is what the last deployment said once it had fetched.
func (r *rig) fetchedText() string {
	for _, ev := range slices.Backward(r.events) {
		if ev.Step == deployment.Fetch && ev.State == deployment.Done {
			return ev.Message
		}
	}
	return ""
}

func TestRecyclesWhatPruneWouldDelete(t *testing.T) {
	r, p := recycling(t, nil, "aaaaaaa", "bbbbbbb", "ccccccc")
	if want := []string{"", "", ""}; !slices.Equal(p.base, want) || r.fetchedText() != "7 B of 10 B, 1,234 files into an empty directory" {
		t.Errorf("got %q, %q, want nothing recycled yet", p.base, r.fetchedText())
	}
	if got, want := p.others[2], []Directory{{"2-bbbbbbb", r.treeDigest("2-bbbbbbb")}, {"1-aaaaaaa", r.treeDigest("1-aaaaaaa")}}; !slices.Equal(got, want) {
		t.Errorf("to copy from: got %v, want %v", got, want)
	}
	before, err := os.Stat(r.path("1-aaaaaaa", "same"))
	must(t, err)
	old := r.treeDigest("1-aaaaaaa")
	r.engine.Tree = &ordered{Tree: r.engine.Tree, r: r}
	r.publish(4, "ddddddd")
	r.once(deployment.Deployed)
	r.live("ddddddd")
	after, err := os.Stat(r.path("4-ddddddd", "same"))
	must(t, err)
	if p.base[3] != old || !os.SameFile(before, after) {
		t.Errorf("got %q recycled, want %q, and its file the same inode", p.base[3], old)
	}
	if got, want := r.names(), []string{"2-bbbbbbb", "3-ccccccc", "4-ddddddd"}; !slices.Equal(got, want) {
		t.Errorf("on disk: got %q, want %q", got, want)
	}
	if got, want := r.fetchedText(), "7 B of 10 B, 1 of 1,234 files changed, 1-aaaaaaa recycled"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if last := r.last(); last.Bytes != 7 {
		t.Errorf("got %d bytes pulled, want 7", last.Bytes)
	}
	if len(r.compared) != 0 {
		t.Errorf("read whole, although nobody has touched anything: %q", r.compared)
	}
	fetched := len(p.base)
	for _, hash := range []string{"ccccccc", "bbbbbbb"} {
		if got := r.do("rollback", deployment.Command{}); got.Outcome != deployment.Deployed {
			t.Fatalf("rollback: got %+v", got)
		}
		r.live(hash)
	}
	if len(p.base) != fetched {
		t.Error("a rollback to a release on disk has fetched something")
	}
}

func (r *rig) treeDigest(name string) string { t, _ := r.engine.state.treeNamed(name); return t.Digest }

// ordered demands that what is recycled is not in the state any more that a power cut would leave.
type ordered struct {
	Tree
	r *rig
}

func (o *ordered) Recycle(name string) (string, *os.Root, error) {
	data, err := o.r.engine.Journal.Load()
	must(o.r.t, err)
	if strings.Contains(string(data), `"name":"`+name+`"`) {
		o.r.t.Errorf("%s is recycled, and the state still names it", name)
	}
	return o.Tree.Recycle(name)
}

func TestWhatIsNotRecycled(t *testing.T) {
	type world struct {
		*rig
		*pieces
	}
	for name, test := range map[string]struct {
		change func(*Options)
		do     func(world)
	}{
		"with fewer than three kept": {func(o *Options) { o.Keep = 2 }, func(world) {}},
		"with more kept":             {func(o *Options) { o.Keep = 4 }, func(world) {}},
		"changed by hand": {nil, func(w world) {
			w.spoil("1-aaaaaaa")
			must(w.t, w.engine.learn(w.engine.survey(w.t.Context(), w.engine.trees(), false)))
		}},
		"the process runs from it": {nil, func(w world) { w.running = w.tree.ReleasePath("1-aaaaaaa") + "/bin" }},
		"nothing is kept of it":    {nil, func(w world) { clear(w.fits) }},
		"nobody has looked at it":  {nil, func(w world) { w.engine.state.Trees[0].Looked = "" }},
		"an older agent made it":   {nil, func(w world) { w.engine.state.Trees[0].Digest = "" }},
		"other paths were shared":  {nil, func(w world) { w.engine.state.Trees[0].Shared = []string{"data/"} }},
		"it is gone":               {nil, func(w world) { must(w.t, os.RemoveAll(w.path("1-aaaaaaa"))) }},
		"it is the one before":     {nil, func(w world) { w.do("rollback", deployment.Command{}) }},
		"current was led to it":    {nil, func(w world) { must(w.t, w.tree.Switch("1-aaaaaaa")) }},
		"the store gives no parts": {nil, func(w world) { w.whole = true }},
	} {
		t.Run(name, func(t *testing.T) {
			r, p := recycling(t, test.change, "aaaaaaa", "bbbbbbb", "ccccccc")
			test.do(world{r, p})
			r.publish(4, "ddddddd")
			r.once(deployment.Deployed)
			r.live("ddddddd")
			if got := p.base[3:]; len(got) > 0 && got[0] != "" {
				t.Errorf("got %q recycled, want none", got)
			}
		})
	}
}

// A rollback that has to fetch the release again makes it of none that would be gone back to next.
func TestRollbackThatFetchesRecyclesNothingBeforeIt(t *testing.T) {
	r, p := recycling(t, nil, "aaaaaaa", "bbbbbbb", "ccccccc")
	r.spoil("2-bbbbbbb")
	must(t, r.engine.learn(r.engine.survey(t.Context(), r.engine.trees(), false)))
	for _, hash := range []string{"bbbbbbb", "aaaaaaa"} {
		if got := r.do("rollback", deployment.Command{}); got.Outcome != deployment.Deployed {
			t.Fatalf("got %+v", got)
		}
		r.live(hash)
	}
	if want := []string{"", "", "", ""}; !slices.Equal(p.base, want) {
		t.Errorf("got %q brought, want one fetched, and nothing recycled for it", p.base)
	}
}

// Whatever goes wrong in the middle, what is live stays, nothing half-made is left, and the next one is brought.
func TestTroubleWhileRecycling(t *testing.T) {
	for name, test := range map[string]struct {
		onBase, onEmpty error
		want            deployment.Outcome
		said            string
	}{
		"the directory is not as it should be": {ErrBase, nil, deployment.Deployed, "recycling 1-aaaaaaa did not work, unpacking into an empty directory: "},
		"no space for what changed":            {&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, nil, deployment.Deployed, "recycling 1-aaaaaaa did not work"},
		"no space at all":                      {syscall.ENOSPC, syscall.EDQUOT, deployment.Failed, "recycling 1-aaaaaaa did not work"},
		"not what was signed":                  {release.ErrVerify, nil, deployment.Failed, ""},
		"the network":                          {errors.New("no route"), nil, deployment.Failed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, p := recycling(t, nil, "aaaaaaa", "bbbbbbb", "ccccccc")
			p.trouble = func(_ context.Context, base string) error {
				if base != "" {
					return test.onBase
				}
				return test.onEmpty
			}
			r.publish(4, "ddddddd")
			r.once(test.want)
			want := []string{"2-bbbbbbb", "3-ccccccc"}
			if test.want == deployment.Deployed {
				want = append(want, "4-ddddddd")
			} else {
				r.live("ccccccc")
			}
			if got := r.names(); !slices.Equal(got, want) {
				t.Errorf("on disk: got %q, want %q", got, want)
			}
			said := slices.ContainsFunc(r.events, func(ev deployment.Event) bool { // progress is not in the log, and CI leaves most of it out
				return test.said != "" && ev.State == deployment.StepFail && strings.HasPrefix(ev.Message, test.said)
			})
			if said != (test.said != "") {
				t.Errorf("said %q: got %v", test.said, said)
			}
			p.trouble = nil
			r.publish(5, "eeeeeee")
			r.once(deployment.Deployed)
			r.live("eeeeeee")
			if test.want == deployment.Failed && p.pulled() != 7 {
				t.Errorf("got %d bytes pulled by the last one", p.pulled())
			}
		})
	}
}

func (p *pieces) pulled() int64 { return p.last().Bytes }

func TestNewerPointerWhileRecycling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, p := recycling(t, nil, "aaaaaaa", "bbbbbbb", "ccccccc")
		begun := make(chan struct{}, 1)
		p.trouble = func(ctx context.Context, base string) error {
			if base == "" {
				return nil
			}
			begun <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		r.publish(4, "ddddddd")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = r.engine.Run(ctx) }()
		<-begun
		r.engine.Offer(r.publish(5, "eeeeeee"))
		synctest.Wait()
		r.live("eeeeeee")
		if got, want := r.names(), []string{"2-bbbbbbb", "3-ccccccc", "5-eeeeeee"}; !slices.Equal(got, want) {
			t.Errorf("on disk: got %q, want %q", got, want)
		}
		cancel()
		<-done
	})
}

// The same for an agent that is stopped, and for one that dies at any save of its state.
func TestDeathWhileRecycling(t *testing.T) {
	t.Run("stopped", func(t *testing.T) {
		r, p := recycling(t, nil, "aaaaaaa", "bbbbbbb", "ccccccc")
		ctx, cancel := context.WithCancel(t.Context())
		p.trouble = func(ctx context.Context, base string) error { cancel(); return ctx.Err() }
		r.publish(4, "ddddddd")
		if _, err := r.engine.Once(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want the interruption", err)
		}
		if got, want := r.names(), []string{".stage-begun", ".stage-begun.notes", "2-bbbbbbb", "3-ccccccc"}; !slices.Equal(got, want) {
			t.Errorf("on disk: got %q, want %q", got, want)
		}
		p.trouble = nil
		r.start()
		r.once(deployment.Deployed)
		r.live("ddddddd")
		if got, want := r.names(), []string{"2-bbbbbbb", "3-ccccccc", "4-ddddddd"}; !slices.Equal(got, want) || r.engine.state.Begun != nil {
			t.Errorf("in the end: got %q, want %q", got, want)
		}
	})
	for die := 1; ; die++ {
		r, _ := recycling(t, nil, "aaaaaaa", "bbbbbbb", "ccccccc")
		r.publish(4, "ddddddd")
		if r.deadAt(die, func() { _, _ = r.engine.Once(t.Context()) }) {
			if die < 6 {
				t.Errorf("only %d saves, want a journal written around each step", die-1)
			}
			return
		}
		r.start()
		r.once(deployment.Deployed)
		r.live("ddddddd")
		for _, tree := range r.engine.trees() {
			if data, err := os.ReadFile(r.path(tree.Name, "hash")); err != nil || !strings.HasSuffix(tree.Name, string(data)) {
				t.Errorf("death at save %d: %s holds %q, %v", die, tree.Name, data, err)
			}
		}
		if names := r.names(); len(names) != len(r.engine.trees()) {
			t.Errorf("death at save %d: %q on disk, %d known", die, names, len(r.engine.trees()))
		}
	}
}

// What was changed by hand after the last look and before the recycling is found by the next look, and so is what is changed after.
func TestChangedByHandBeforeRecycling(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			r, p := recycling(t, nil, "aaaaaaa", "bbbbbbb", "ccccccc")
			change := func(tree string) {
				r.tick()
				info, err := os.Stat(r.path(tree, "same"))
				must(t, err)
				must(t, os.WriteFile(r.path(tree, "same"), []byte("EVIL"), 0o644))
				must(t, os.Chtimes(r.path(tree, "same"), time.Time{}, info.ModTime()))
				r.tick()
			}
			if when == "before" {
				change("1-aaaaaaa")
			} else {
				p.engine.Hooks = Hooks{"after-healthy": func(context.Context, string) ([]string, error) { change("4-ddddddd"); return nil, nil }}
			}
			r.publish(4, "ddddddd")
			r.once(deployment.Deployed)
			if p.base[3] == "" {
				t.Fatal("nothing was recycled")
			}
			if want := []string{"4-ddddddd"}; !slices.Equal(r.compared, want) {
				t.Errorf("read whole: got %q, want %q", r.compared, want)
			}
			if got := r.engine.Receipt().Status; !strings.Contains(got, "the live release 4-ddddddd was changed on this server: same (changed)") {
				t.Errorf("got status %q", got)
			}
			r.engine.Hooks = nil
			r.publish(5, "eeeeeee")
			r.once(deployment.Deployed)
			if got := r.do("rollback", deployment.Command{}); got.Outcome != deployment.Deployed || !slices.ContainsFunc(got.Record.Events, func(ev deployment.Event) bool {
				return ev.Step == deployment.Fetch && ev.State == deployment.Done && ev.Bytes > 0
			}) {
				t.Errorf("rollback: got %+v, want it fetched again", got)
			}
		})
	}
}

// tick waits until the clock that the filesystem dates changes by has moved on.
func (r *rig) tick() {
	stamp := func() time.Time {
		path := filepath.Join(r.root, "stamp")
		must(r.t, os.WriteFile(path, nil, 0o600))
		must(r.t, os.Chmod(path, 0o600))
		info, err := os.Stat(path)
		must(r.t, err)
		return info.ModTime()
	}
	for first := stamp(); !stamp().After(first.Add(20 * time.Millisecond)); {
	}
}

// An agent of the version before knows nothing of how its releases were brought: one that takes up its state unpacks anew until it
// has made one itself.
func TestStateOfAnAgentWithoutRecycling(t *testing.T) {
	r, p := recycling(t, nil, "aaaaaaa", "bbbbbbb", "ccccccc")
	data, err := r.engine.Journal.Load()
	must(t, err)
	var state map[string]any
	must(t, json.Unmarshal(data, &state))
	for _, tree := range state["trees"].([]any) {
		for _, field := range []string{"looked", "window", "base"} {
			delete(tree.(map[string]any), field)
		}
	}
	data, err = json.Marshal(state)
	must(t, err)
	must(t, r.engine.Journal.Save(data))
	clear(p.fits)
	r.start()
	var got []string
	for seq, hash := range []string{"ddddddd", "eeeeeee", "fffffff", "ggggggg"} {
		r.publish(uint64(seq+4), hash)
		r.once(deployment.Deployed)
		r.live(hash)
		got = append(got, fmt.Sprint(p.base[len(p.base)-1] != ""))
	}
	if want := []string{"false", "false", "false", "true"}; !slices.Equal(got, want) {
		t.Errorf("recycled: got %q, want %q", got, want)
	}
}

func TestNoRoomForASecondTree(t *testing.T) {
	r, p := recycling(t, nil, "aaaaaaa", "bbbbbbb", "ccccccc")
	p.write = 5 << 20
	r.engine.Tree = &narrow{Tree: r.engine.Tree, free: 100 << 20}
	r.publish(4, "ddddddd")
	r.once(deployment.Deployed)
	p.write = 50 << 20
	r.publish(5, "eeeeeee")
	r.once(deployment.Failed)
	r.live("ddddddd")
	if got := r.last().Reason; !strings.Contains(got, "not enough space in ") || !strings.Contains(got, "100 MiB free, 119 MiB needed") {
		t.Errorf("got %q", got)
	}
	if got, want := r.names(), []string{"2-bbbbbbb", "3-ccccccc", "4-ddddddd"}; !slices.Equal(got, want) {
		t.Errorf("on disk: got %q, want %q: what cannot be brought forward stays", got, want)
	}
}

// What cannot be written down, or renamed, leaves no directory behind that nobody names, and no name of one that is gone.
func TestRecyclingThatDoesNotBegin(t *testing.T) {
	for name, trouble := range map[string]func(*rig){
		"not written down": func(r *rig) { r.engine.Journal = &fullOnce{Journal: r.engine.Journal, r: r} },
		"not renamed":      func(r *rig) { r.engine.Tree = &stuck{r.engine.Tree} },
	} {
		t.Run(name, func(t *testing.T) {
			r, p := recycling(t, nil, "aaaaaaa", "bbbbbbb", "ccccccc")
			trouble(r)
			r.publish(4, "ddddddd")
			r.once(deployment.Deployed)
			if got, want := r.names(), []string{"2-bbbbbbb", "3-ccccccc", "4-ddddddd"}; !slices.Equal(got, want) || p.base[3] != "" {
				t.Errorf("got %q, and %q recycled, want %q", got, p.base[3], want)
			}
			if got := len(r.engine.trees()); got != 3 {
				t.Errorf("got %d directories known, want 3", got)
			}
		})
	}
}

// fullOnce is a journal that has no room for the state in which a directory is recycled.
type fullOnce struct {
	Journal
	r *rig
}

func (f *fullOnce) Save(state []byte) error {
	if a := f.r.engine.state.Attempt; a != nil && a.Phase == deployment.Unpack && len(f.r.engine.state.Trees) == 2 {
		return syscall.ENOSPC
	}
	return f.Journal.Save(state)
}

// stuck is a tree in which nothing can be recycled.
type stuck struct{ Tree }

func (*stuck) Recycle(string) (string, *os.Root, error) { return "", nil, syscall.EIO }

// narrow is a tree on a disk with so much space.
type narrow struct {
	Tree
	free int64
}

func (n *narrow) Space() (int64, int64, error) { return n.free, 0, nil }
