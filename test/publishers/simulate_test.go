package publishers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

var rounds = flag.Int("rounds", 0, "rounds of each test, in the place of what continuous integration takes")

const publishers = 16 // at once

func times(usual int) int {
	if *rounds > 0 {
		return *rounds
	}
	return usual
}

// commits is a made-up repository: who is whose parent.
type commits map[string]string

func commit(n int) string { return fmt.Sprintf("%08x%032x", n+0xabc0000, n) }

// behind reports whether version is a true ancestor of than.
func (c commits) behind(version, than string) bool {
	for than = c[than]; than != ""; than = c[than] {
		if than == version {
			return true
		}
	}
	return false
}

func (c commits) compare(_ context.Context, base, head string) (string, error) {
	switch {
	case base == head:
		return "identical", nil
	case c.behind(head, base):
		return "behind", nil
	case c.behind(base, head):
		return "ahead", nil
	}
	return "diverged", nil
}

// grow makes n commits, each the child of the one before or, one in every so many, of any before it.
func grow(dice *rand.Rand, n, oneIn int) commits {
	c := commits{commit(0): ""}
	for i := 1; i < n; i++ {
		parent := i - 1
		if oneIn > 0 && dice.IntN(oneIn) == 0 {
			parent = dice.IntN(i)
		}
		c[commit(i)] = commit(parent)
	}
	return c
}

// mute is a log that nobody reads.
type mute struct{}

func (mute) Phase(string)                       {}
func (mute) Line(publish.Tone, string)          {}
func (mute) Quote(publish.Tone, string, string) {}
func (mute) Warn(string)                        {}
func (mute) Debug(string)                       {}

// field is one app in one store, and its publishers.
type field struct {
	*testing.T
	store *store
	dice  *rand.Rand // of what the parties do; the store has its own
	tree  commits
	key   release.PrivateKey
	trust release.Trust
	start time.Time
	dir   string

	mu  sync.Mutex
	ops []op
}

func newField(t *testing.T, s *store, dice *rand.Rand, tree commits) *field {
	t.Helper()
	f := &field{T: t, store: s, dice: dice, tree: tree, start: time.Now(), dir: t.TempDir()}
	f.key, f.trust = newKey(t)
	return f
}

func newKey(t *testing.T) (release.PrivateKey, release.Trust) {
	t.Helper()
	key, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := release.NewTrust([]release.PublicKey{key.Public()}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return key, trust
}

func (f *field) add(o op) {
	o.done = int64(time.Since(f.start))
	f.mu.Lock()
	f.ops = append(f.ops, o)
	f.mu.Unlock()
}

// run is one publisher from its beginning to its end.
func (f *field) run(client int, command, version string) {
	o := op{name: fmt.Sprintf("op-%d", client), client: client, kind: release.Kind(command), version: version, invoke: int64(time.Since(f.start))}
	inputs := map[string]string{"app": "web", "path": "dist", "bucket": "deploys", "command": command, "signing-key": f.key.Reveal(), "reason": o.name}
	if command != "deploy" {
		inputs["version"] = version
	}
	options, err := publish.Parse(func(name string) string { return inputs[name] })
	if err != nil {
		f.Error(err)
		return
	}
	r, err := publish.Run(context.Background(), publish.Parts{
		Options: options, Bucket: f.store, Size: f.store.Size, Log: mute{}, Temp: f.dir, Compare: f.tree.compare,
		Release: release.Release{Hash: version, Msg: o.name, Date: "2026-11-23T13:06:43Z"},
		Run:     &release.Run{URL: "https://ci.example/runs/" + o.name},
		Pack: func(_ context.Context, out *os.File, r release.Release, progress func(done, total int64)) (release.Artifact, error) {
			data := []byte("the bytes of " + r.Hash)
			sum := sha256.Sum256(data)
			_, err := out.Write(data)
			return release.Artifact{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data)), UnpackedSize: 100, Entries: 2, Format: release.FormatGzip}, err
		},
	})
	o.outcome, o.seq, o.reason, o.warnings, o.err = r.Outcome, r.Seq, r.Reason, r.Warnings, err
	if command != "deploy" && err == nil {
		o.version = r.Version
	}
	f.add(o)
}

// restore is a person who puts an old version.json back.
func (f *field) restore(client int, seq uint64) {
	o := op{name: fmt.Sprintf("person-%d", client), client: client, seq: seq, invoke: int64(time.Since(f.start))}
	f.store.place(release.PointerKey("web", "production"), f.store.look(release.HistoryKey("web", "production", seq)))
	f.add(o)
}

func (f *field) record() record {
	f.Helper()
	r := record{ops: f.ops, behind: f.tree.behind, quick: true, loose: !f.store.kind.create}
	r.read(f.T, f.trust, "web", f.store.look)
	return r
}

// pointer is that which lies in the store, seq 0 when there is none.
func (f *field) pointer() release.Pointer {
	file := f.store.look(release.PointerKey("web", "production"))
	if file == nil {
		return release.Pointer{}
	}
	v, err := f.trust.Pointer(file, release.Want{App: "web", Environment: "production", Prefix: "web"})
	if err != nil {
		f.Error(err)
	}
	return v.Pointer()
}

// deploys are 16 commits deployed at once.
func (f *field) deploys() {
	order := f.dice.Perm(publishers)
	var all sync.WaitGroup
	for i, n := range order {
		late := time.Duration(f.dice.Int64N(int64(2 * f.store.latency)))
		all.Go(func() {
			time.Sleep(late)
			f.run(i, "deploy", commit(n))
		})
	}
	all.Wait()
}

func newDice(round int) *rand.Rand { return rand.New(rand.NewPCG(7, uint64(round))) }

// 16 commits at once, in repositories of all forms, on a store that minds create-only: with If-Match and without.
func TestSimulatedPublishers(t *testing.T) {
	t.Parallel()
	for _, k := range []kind{{create: true, match: true}, {create: true}} {
		t.Run(k.String(), func(t *testing.T) {
			count := map[deployment.Outcome]int{}
			for round := range times(8) {
				synctest.Test(t, func(t *testing.T) {
					dice := newDice(round)
					f := newField(t, newStore(k, time.Duration(1+dice.IntN(400))*time.Millisecond, dice.Uint64()), dice, grow(dice, publishers, []int{0, 2, 5}[round%3]))
					lower := f.watch()
					f.deploys()
					r := f.record()
					r.check(t)
					if n := lower(); k.match && n > 0 {
						t.Errorf("the pointer went back %d times", n)
					}
					if newest := commit(publishers - 1); round%3 == 0 && r.pointer.Pointer().Release.Hash != newest {
						t.Errorf("live: got %s, want the newest of one line of commits, %s", r.pointer.Pointer().Release.Hash, newest)
					}
					for _, o := range r.ops {
						count[o.outcome]++
					}
				})
				if t.Failed() {
					t.Fatalf("round %d", round)
				}
			}
			t.Logf("%d rounds of %d: %v", times(8), publishers, count)
			if count[deployment.Published] == 0 || count[deployment.Superseded] == 0 {
				t.Error("the publishers never met")
			}
		})
	}
}

// watch looks at the pointer all the time, and says in the end how often it went back.
func (f *field) watch() (lower func() int) {
	over, done := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		var seen []byte
		for last := uint64(0); ; {
			select {
			case <-over:
				done <- n
				return
			case <-time.After(f.store.latency / 40):
			}
			file := f.store.look(release.PointerKey("web", "production"))
			if bytes.Equal(file, seen) {
				continue
			}
			seen = file
			now := f.pointer().Seq
			if now < last {
				n++
			}
			last = now
		}
	}()
	return func() int { close(over); return <-done }
}

// Promote, rollback and a person's restore among the deployments.
func TestSimulatedMixture(t *testing.T) {
	t.Parallel()
	for _, k := range []kind{{create: true, match: true}, {create: true}} {
		t.Run(k.String(), func(t *testing.T) {
			for round := range times(6) {
				synctest.Test(t, func(t *testing.T) {
					dice := newDice(round)
					f := newField(t, newStore(k, time.Duration(1+dice.IntN(400))*time.Millisecond, dice.Uint64()), dice, grow(dice, 3+publishers, 3))
					for i := range 3 {
						f.run(i, "deploy", commit(i))
					}
					var all sync.WaitGroup
					for i := 3; i < 3+publishers; i++ {
						late := time.Duration(dice.Int64N(int64(4 * f.store.latency)))
						what, old := dice.IntN(8), dice.IntN(3)
						all.Go(func() {
							time.Sleep(late)
							switch what {
							case 0:
								f.run(i, "promote", commit(old))
							case 1:
								f.run(i, "rollback", "previous")
							case 2:
								f.restore(i, uint64(old+1))
							default:
								f.run(i, "deploy", commit(i))
							}
						})
					}
					all.Wait()
					r := f.record()
					r.quick = !slices.ContainsFunc(r.ops, func(o op) bool { return o.kind == "" })
					// Where the pointer is the first release, there is nothing before it, and a rollback says so.
					r.ops = slices.DeleteFunc(r.ops, func(o op) bool {
						return o.kind == release.KindRollback && errors.Is(o.err, publish.ErrUnknownRelease)
					})
					r.check(t)
				})
				if t.Failed() {
					t.Fatalf("round %d", round)
				}
			}
		})
	}
}

// A store that lets an object be created twice: nothing is promised, the reason is said by everyone who moved the pointer, and
// whoever was overwritten has found out.
func TestSimulatedLooseStores(t *testing.T) {
	t.Parallel()
	for _, k := range []kind{{match: true}, {}} {
		t.Run(k.String(), func(t *testing.T) {
			overwritten := 0
			var longest time.Duration
			for round := range times(6) {
				synctest.Test(t, func(t *testing.T) {
					dice := newDice(round)
					f := newField(t, newStore(k, time.Duration(1+dice.IntN(200))*time.Millisecond, dice.Uint64()), dice, grow(dice, publishers, 3))
					f.deploys()
					r := f.record()
					r.quick = false
					r.check(t)
					longest = max(longest, time.Since(f.start))
					for _, o := range r.ops {
						text := strings.Join(o.warnings, "\n")
						if o.seq > 0 && strings.Count(text, "concurrency: group") != 1 {
							t.Errorf("%s moved the pointer, and said of the store %q, want one word about concurrency:", o.name, text)
						}
						overwritten += strings.Count(text, "at the same moment and the store let it")
					}
				})
				if t.Failed() {
					t.Fatalf("round %d", round)
				}
			}
			t.Logf("%d rounds of %d: %d found themselves overwritten, the longest round took %v", times(6), publishers, overwritten, longest)
			if overwritten == 0 {
				t.Error("nobody was overwritten")
			}
		})
	}
}
