package threats

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// world is a publisher, a bucket, an attacker who may write it, and a server, with what must be true of them.
type world struct {
	*testing.T
	*server
	ci      *publisher
	thief   pair
	reverts bool

	made     int
	clock    time.Time         // of what is written into the bucket
	pointers [][]byte          // every one that was well signed
	versions map[uint64]string // what they name, by seq
	followed []byte            // what the server follows
	dated    time.Time         // its Last-Modified, as the server has seen it
	highest  uint64            // that it ever followed
}

// write dates what lies at the pointer's key a minute after all that was written before.
func (w *world) write(file []byte) {
	w.clock = w.clock.Add(time.Minute)
	w.putAt(web.pointer(), file, w.clock)
}

// noted takes in what the publisher has written.
func (w *world) noted(got ran) {
	got.want(w.T, deployment.ExitOK)
	file := w.get(web.pointer())
	p := opened(w.T, web, file)
	w.pointers, w.versions[p.Seq] = append(w.pointers, file), p.Release.Hash
	w.write(file)
}

// honest puts the newest pointer back, as a person does who has found out.
func (w *world) honest() {
	if len(w.pointers) > 0 {
		w.write(w.pointers[len(w.pointers)-1])
	}
}

func (w *world) actions() map[string]func(*rapid.T) {
	publish := func() {
		w.honest()
		w.made++
		w.noted(w.ci.publish(fmt.Sprintf("v%d", w.made)))
	}
	some := func(t *rapid.T) []byte {
		if len(w.pointers) == 0 {
			publish()
		}
		return rapid.SampledFrom(w.pointers).Draw(t, "pointer")
	}
	return map[string]func(*rapid.T){
		"publish": func(*rapid.T) { publish() },
		"promote": func(t *rapid.T) {
			version := opened(w.T, web, some(t)).Release.Hash
			w.honest()
			w.noted(w.ci.run("promote", version))
		},
		"restore":    func(t *rapid.T) { w.write(some(t)) },
		"stale read": func(t *rapid.T) { w.putAt(web.pointer(), some(t), time.Unix(1e9, 0)) },
		"forge": func(t *rapid.T) {
			p := opened(w.T, web, some(t))
			p.Seq += rapid.Uint64Range(0, 9).Draw(t, "ahead")
			p.Reason = "forged"
			if p.Seq > 1 {
				p.Prev = strings.Repeat("0", 64)
			}
			var keys []release.PrivateKey
			if rapid.Bool().Draw(t, "signed") {
				keys = append(keys, w.thief.signer(w.T))
			}
			w.write(sign(w.T, p, keys...))
		},
		"flip a bit": func(t *rapid.T) {
			file := bytes.Clone(some(t))
			file[rapid.IntRange(0, len(file)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			w.write(file)
		},
		"remove": func(*rapid.T) {
			if err := os.Remove(w.path(web.pointer())); !errors.Is(err, fs.ErrNotExist) {
				w.must(err)
			}
		},
		"look":  w.look,
		"again": w.look,
	}
}

// look lets the agent look once, and holds what it did against the rules.
func (w *world) look(t *rapid.T) {
	got := w.once()
	var r deployment.Receipt
	w.must(json.Unmarshal(w.get(web.receipt(w.name)), &r))
	shown, err := os.ReadFile(w.path(web.pointer()))
	if err != nil {
		shown = nil
	}
	if r.Pointer.Seq == 0 {
		return // it follows nothing yet
	}
	// No action without a valid signature: what it follows was signed, and what is live is what that named.
	if w.versions[r.Pointer.Seq] != r.Pointer.Hash {
		t.Fatalf("it follows seq %d, %s, which nobody signed:\n%s", r.Pointer.Seq, r.Pointer.Hash, got.out)
	}
	if live := w.live("web"); live != r.Pointer.Hash || r.Live.Hash != live {
		t.Fatalf("live is %q, the receipt says %q, followed is %q:\n%s", live, r.Live.Hash, r.Pointer.Hash, got.out)
	}
	was := uint64(0)
	if w.followed != nil {
		was = opened(w.T, web, w.followed).Seq
	}
	switch {
	case r.Pointer.Seq == was:
	case !w.isPointer(shown) || opened(w.T, web, shown).Seq != r.Pointer.Seq:
		t.Fatalf("it went from seq %d to %d, which is not what the bucket shows:\n%s\n%s", was, r.Pointer.Seq, shown, got.out)
	case r.Pointer.Seq < w.highest && !w.reverts:
		t.Fatalf("it went back from seq %d to %d though reverts are refused:\n%s", was, r.Pointer.Seq, got.out)
	case r.Pointer.Seq < was && w.modified(web.pointer()).Before(w.dated):
		t.Fatalf("one stale read took it from seq %d back to %d:\n%s", was, r.Pointer.Seq, got.out)
	}
	if w.isPointer(shown) && opened(w.T, web, shown).Seq == r.Pointer.Seq {
		if date := w.modified(web.pointer()); !bytes.Equal(shown, w.followed) || date.After(w.dated) {
			w.dated = date
		}
		w.followed = shown
	}
	w.highest = max(w.highest, r.Pointer.Seq)
	// Whatever cannot be followed is said.
	if shown != nil && !w.isPointer(shown) && got.code != deployment.ExitRefused {
		t.Fatalf("a pointer that nobody signed: got %d:\n%s", got.code, got.out)
	}
	if left, _ := fs.Glob(os.DirFS(filepath.Join(w.srv(), "web/incoming")), "*"); len(left) > 0 {
		t.Fatalf("left behind: %q", left)
	}
}

func (w *world) isPointer(file []byte) bool {
	for _, p := range w.pointers {
		if bytes.Equal(p, file) {
			return true
		}
	}
	return false
}

// Whatever a publisher and an attacker do in whatever order: what the server follows never falls without a restore that it
// may follow, and nothing happens without a valid signature.
func TestModel(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	if err := checks.Value.Set("6"); err != nil { // each step starts programs
		t.Fatal(err)
	}
	for _, reverts := range []string{"follow", "refuse"} {
		t.Run(reverts, func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) {
				s := newSite(t)
				key := keygen(t)
				w := &world{
					T: t, thief: keygen(t), reverts: reverts == "follow", clock: time.Unix(2e9, 0), versions: map[uint64]string{},
					server: s.server("web-1", fmt.Sprintf("trust: {keys: [%s], reverts: %s}\n", list(key), reverts), "  web: {dir: $srv/web}\n"),
					ci:     s.publisher(web, key),
				}
				r.Repeat(w.actions())
				// And in the end an honest publisher gets through.
				w.honest()
				w.made++
				w.noted(w.ci.publish(fmt.Sprintf("v%d", w.made)))
				w.look(r)
				w.wantLive(fmt.Sprintf("v%d", w.made))
			})
		})
	}
}
