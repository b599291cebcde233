package unitfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/internal/grant"
)

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		"/usr/bin/node server.js":          {"/usr/bin/node", "server.js"},
		"  ./server   --name 'a b'  ":      {"./server", "--name", "a b"},
		`python3 -m "my app" a\ b "x\"y"`:  {"python3", "-m", "my app", "a b", `x"y`},
		`/bin/sh -c 'exec node a.js $X|y'`: {"/bin/sh", "-c", "exec node a.js $X|y"},
		`x ''`:                             {"x", ""},
		`./server --level=3`:               {"./server", "--level=3"},
	} {
		if got, err := Words(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v, want %q", line, got, err, want)
		}
	}
	for line, want := range map[string]string{
		"": "is empty", "   ": "is empty", "node a.js && x": "& is one's", "node >log": "> is one's", "node $HOME/a": "$ is one's",
		"PORT=3000 node": "Environment=PORT=3000", "node 'a": "not closed", `node \`: "not closed", "node\nx": "control characters", "''": "is empty",
	} {
		if got, err := Words(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %q, %v, want %q", line, got, err, want)
		}
	}
}

func TestProgram(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"usr/bin/node", "usr/bin/plain"} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := fs.FileMode(0o755)
		if strings.HasSuffix(name, "plain") {
			mode = 0o644
		}
		if err := os.WriteFile(filepath.Join(root, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for word, want := range map[string]string{
		"node": "/usr/bin/node", "/usr/bin/node": "/usr/bin/node", "./server": "/srv/shop/current/server", "bin/a": "/srv/shop/current/bin/a",
		"plain": "", "/usr/bin/plain": "", "../server": "", "ghost": "", "/usr/bin": "",
	} {
		got, err := Program(root, "/srv/shop", word)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", word, got, err, want)
		}
	}
}

func TestAddress(t *testing.T) {
	for text, want := range map[string]string{
		"3000": "127.0.0.1:3000", "127.0.0.1:3000": "127.0.0.1:3000", "[::1]:80": "[::1]:80", ":3000": "3000", "0.0.0.0:1": "0.0.0.0:1",
		"0": "", "65536": "", "x": "", "localhost:80": "", "1.2.3.4": "", "": "", "::1:80": "", "80\nx": "",
	} {
		if got, err := Address(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
}

func service() Service {
	return Service{Key: "shop", Unit: "shop.service", User: "shop", Group: "shop", Dir: "/srv/50%", Argv: []string{"/usr/bin/node", "a b", `$X%"\`}}
}

func TestServiceIsWrittenOnce(t *testing.T) {
	root, s := t.TempDir(), service()
	for _, want := range []string{"\nExecStart=/usr/bin/node \"a b\" \"$$X%%\\\"\\\\\"\n", "\nWorkingDirectory=/srv/50%%/current\n", "\nUser=shop\n"} {
		if !strings.Contains(s.Text(), want) {
			t.Errorf("want %q in\n%s", want, s.Text())
		}
	}
	apply := func(plan grant.Plan, err error) {
		t.Helper()
		if err == nil {
			err = plan.Apply(func(grant.Change) {})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	apply(s.Plan(root))
	if again, err := s.Plan(root); err != nil || again.Todo() != 0 {
		t.Errorf("again: got %v, %v, want nothing to do", again, err)
	}
	other := s
	other.Argv = []string{"/bin/true"}
	if _, err := other.Plan(root); !errors.Is(err, fs.ErrExist) {
		t.Errorf("another command: got %v, want %v", err, fs.ErrExist)
	}
	file := filepath.Join(root, s.Path())
	if err := os.WriteFile(file, []byte(s.Text()+"# mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if plan, unchanged, err := Forget(root, "shop", s.Unit); err != nil || unchanged || plan.Todo() != 0 {
		t.Errorf("a changed unit: got %v, %v, %v, want it left", plan, unchanged, err)
	}
	if err := os.WriteFile(file, []byte(s.Text()), 0o644); err != nil {
		t.Fatal(err)
	}
	plan, unchanged, err := Forget(root, "shop", s.Unit)
	if !unchanged {
		t.Error("an unchanged unit is taken for a changed one")
	}
	apply(plan, err)
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want it gone", err)
	}
}

func TestSocketIsFoundAgain(t *testing.T) {
	root := t.TempDir()
	s := Socket{Key: "shop", Unit: "web@1.service", Listen: "127.0.0.1:3000"}
	plan, err := s.Plan(root)
	if err == nil {
		err = plan.Apply(func(grant.Change) {})
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := FindSocket(root, "shop"); err != nil || got != s {
		t.Errorf("got %+v, %v, want %+v", got, err, s)
	}
	if got, err := FindSocket(root, "blog"); err != nil || got.Listen != "" {
		t.Errorf("none: got %+v, %v", got, err)
	}
	if plan, err = s.Forget(root); err != nil || plan.Todo() != 2 {
		t.Errorf("got %v, %v, want both files to go", plan, err)
	}
	if err := os.WriteFile(root+s.path(), []byte("[Socket]\nListenStream=1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := FindSocket(root, "shop"); err != nil || got.Listen != "" {
		t.Errorf("somebody else's: got %+v, %v", got, err)
	}
	if _, err := s.Plan(root); err == nil {
		t.Error("somebody else's is replaced")
	}
}
