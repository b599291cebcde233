package agent

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

func TestOnceDeploys(t *testing.T) {
	w := newWorld(t)
	file := w.file("", oneApp)
	expect := func(want int, say string) {
		t.Helper()
		code, out, errs := w.once(file)
		if code != want || !strings.Contains(out, say) {
			t.Errorf("got exit code %d and %q, want %d and %q; log:\n%s", code, out, want, say, errs)
		}
	}
	expect(deployment.ExitOK, "web: nothing is published yet")
	w.publish("web", hash("1"), "one")
	expect(deployment.ExitOK, "web: deployed "+release.ShortHash(hash("1")))
	if got, want := w.live("web"), "one"; got != want {
		t.Errorf("got %q live, want %q", got, want)
	}
	if r := w.receipt("web"); r.Live.Hash != hash("1") || r.Deployment == nil || r.Deployment.Outcome != deployment.Deployed || len(r.Deployment.Events) == 0 {
		t.Errorf("got receipt %+v", r)
	}
	expect(deployment.ExitOK, "web: deployed")
	w.publish("web", hash("2"), "two")
	expect(deployment.ExitOK, "web: deployed "+release.ShortHash(hash("2")))
	if got, want := w.live("web"), "two"; got != want {
		t.Errorf("got %q live, want %q", got, want)
	}
}

func TestOnceRollsBack(t *testing.T) {
	w := newWorld(t)
	site := newSick(t)
	file := w.file("", oneApp+"    health: {http: \""+site.URL+"\", within: 1s}\n")
	w.publish("web", hash("1"), "one")
	if code, out, errs := w.once(file); code != deployment.ExitOK {
		t.Fatalf("got exit code %d: %s%s", code, out, errs)
	}
	// The probe fails for the new release; by the time that the old one is back it is well.
	w.publish("web", hash("2"), "two")
	site.ill.Store(true)
	code, out, _ := w.once(file)
	if code != deployment.ExitUnwell || !strings.Contains(out, "database is gone") {
		t.Errorf("got exit code %d and %q, want %d and the reason", code, out, deployment.ExitUnwell)
	}
	if got, want := w.live("web"), "one"; got != want {
		t.Errorf("got %q live, want %q", got, want)
	}
	site.ill.Store(false)
	if code, _, _ = w.once(file); code != deployment.ExitUnwell {
		t.Errorf("again: got exit code %d, want %d: a quarantined pointer keeps its code", code, deployment.ExitUnwell)
	}
	w.publish("web", hash("3"), "three")
	if code, out, _ = w.once(file); code != deployment.ExitOK {
		t.Errorf("next: got exit code %d: %s", code, out)
	}
}

func TestOnceRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*world){
		"another key": func(w *world) {
			other, err := release.GenerateKey(nil)
			w.must(err)
			w.put("web", w.pointer("web", "production", hash("1"), "one", other))
		},
		"no signature": func(w *world) { w.put("web", w.pointer("web", "production", hash("1"), "one")) },
		"plain":        func(w *world) { w.put("web", []byte(`{"hash":"abc"}`)) },
		"another app":  func(w *world) { w.put("web", w.pointer("api", "production", hash("1"), "one", w.key)) },
		"another environment": func(w *world) {
			w.put("web", w.pointer("web", "staging", hash("1"), "one", w.key))
		},
		"one bit of the artifact": func(w *world) {
			w.publish("web", hash("1"), "one")
			keys, err := w.bucket.List(w.t.Context(), "web/releases/")
			w.must(err)
			data, _, err := w.bucket.Get(w.t.Context(), keys[0], 1<<20)
			w.must(err)
			data[len(data)/2] ^= 1
			w.must(w.bucket.Put(w.t.Context(), keys[0], data, ""))
		},
		"a shorter artifact": func(w *world) {
			w.publish("web", hash("1"), "one")
			keys, err := w.bucket.List(w.t.Context(), "web/releases/")
			w.must(err)
			w.must(w.bucket.Put(w.t.Context(), keys[0], []byte("x"), ""))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			spoil(w)
			for range 2 { // a pointer that is still refused keeps its code
				code, out, errs := w.once(w.file("", oneApp))
				if code != deployment.ExitRefused || w.live("web") != "" {
					t.Errorf("got exit code %d, %q live, want %d and nothing; %s%s", code, w.live("web"), deployment.ExitRefused, out, errs)
				}
			}
		})
	}
}

func TestOnceTakesTheShellRecipe(t *testing.T) {
	for _, test := range []struct{ name, app, pointer, archive string }{
		{"beside the pointer", "", "web/production/version.json", "web/production/abc.tar.gz"},
		{"named", "    pointer: version.json\n    artifact: \"old/{hash}.tar.gz\"\n", "version.json", "old/abc.tar.gz"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			tw := tar.NewWriter(z)
			w.must(tw.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}))
			w.must(tw.WriteHeader(&tar.Header{Name: "./version.txt", Typeflag: tar.TypeReg, Mode: 0o644, Size: 3}))
			_, err := tw.Write([]byte("old"))
			w.must(err)
			w.must(tw.Close())
			w.must(z.Close())
			w.must(w.bucket.Put(t.Context(), test.archive, b.Bytes(), ""))
			w.must(w.bucket.Put(t.Context(), test.pointer, []byte(`{"hash":"abc","msg":"First","date":"yesterday"}`), ""))
			code, out, errs := w.once(w.file("trust: none", oneApp+test.app))
			if code != deployment.ExitOK || w.live("web") != "old" {
				t.Errorf("got exit code %d, %q live; %s%s", code, w.live("web"), out, errs)
			}
		})
	}
}

func TestOnceGivesTheHighestCode(t *testing.T) {
	w := newWorld(t)
	w.publish("web", hash("1"), "one")
	w.put("bad", []byte("{}"))
	code, out, _ := w.once(w.file("", oneApp+"  bad: {dir: $srv/bad}\n  gone: {dir: $srv/no/such/place}\n"))
	if code != deployment.ExitRefused {
		t.Errorf("got exit code %d, want %d", code, deployment.ExitRefused)
	}
	if w.live("web") != "one" || !strings.Contains(out, "gone: app directory") || !strings.Contains(out, "bad: ") {
		t.Errorf("got %q live and %q", w.live("web"), out)
	}
}

func TestOnceProblems(t *testing.T) {
	w := newWorld(t)
	good := w.file("", oneApp)
	text, err := os.ReadFile(good)
	w.must(err)
	write := func(name, old, new string) string {
		t.Helper()
		path := filepath.Join(w.dir, name)
		w.must(os.WriteFile(path, []byte(strings.ReplaceAll(string(text), old, new)), 0o600))
		return path
	}
	noToken := w.file("trust: none\nping_token_file: $dir/token", oneApp)
	for _, test := range []struct {
		name string
		args []string
		code int
		say  string
	}{
		{"no file", []string{"--config", filepath.Join(w.dir, "none.yaml"), "--once"}, deployment.ExitUsage, "no such file"},
		{"unknown flag", []string{"--conf", "x"}, deployment.ExitUsage, "--conf"},
		{"argument", []string{"start"}, deployment.ExitUsage, "unexpected argument"},
		{"unknown key", []string{"--config", write("a.yaml", "poll:", "pol:"), "--once"}, deployment.ExitUsage, `did you mean "poll"?`},
		{"bad bucket", []string{"--config", write("b.yaml", "file://"+w.dir+"/bucket", "s3://deploys?regoin=x"), "--once"}, deployment.ExitUsage, "regoin"},
		{"no bucket", []string{"--config", write("c.yaml", w.dir+"/bucket", w.dir+"/none"), "--once"}, deployment.ExitUsage, "none"},
		{"no token", []string{"--config", noToken, "--once"}, deployment.ExitUsage, "ping_token_file: open"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := Run(t.Context(), Options{Args: test.args, Stdout: &out, Stderr: &errs})
			if got := out.String() + errs.String(); code != test.code || !strings.Contains(got, test.say) {
				t.Errorf("got exit code %d and %q, want %d and %q", code, got, test.code, test.say)
			}
		})
	}
	var out bytes.Buffer
	if code := Run(t.Context(), Options{Args: []string{"--version"}, Stdout: &out}); code != 0 || out.String() != fmt.Sprintln("towline-agent", release.Version) {
		t.Errorf("got %d, %q", code, out.String())
	}
	out.Reset()
	if code := Run(t.Context(), Options{Args: []string{"--help"}, Stdout: &out}); code != 0 || !strings.Contains(out.String(), "--once") {
		t.Errorf("got %d, %q", code, out.String())
	}
}

func TestOnceFindsAnotherAgent(t *testing.T) {
	w := newWorld(t)
	s := w.settings("", oneApp)
	w.start(s)
	if code, _, errs := w.once(s.Path); code != deployment.ExitHeld || !strings.Contains(errs, "taken by another agent") {
		t.Errorf("got exit code %d and %q, want %d", code, errs, deployment.ExitHeld)
	}
	var errs bytes.Buffer
	if code := Run(t.Context(), Options{Args: []string{"--config", s.Path}, Stderr: &errs}); code != deployment.ExitHeld {
		t.Errorf("daemon: got exit code %d and %q, want %d", code, errs.String(), deployment.ExitHeld)
	}
}
