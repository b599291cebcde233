package parts

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// CorpusTrees are the trees of the corpus: a node service with all that it depends on, and what may follow it.
//
//	A       the service's own files, and its node_modules
//	B-code  A with five of its own files edited: the everyday push
//	B       A edited likewise, and one small dependency moved to its next minor version: the weekly push
//	B-big   B edited again, and a large family of dependencies moved: the bad day
var CorpusTrees = []string{"A", "B-code", "B", "B-big"}

// smallBump is the dependency that B moves. Its package has no dependencies of its own.
const smallBump = "zod@3.24.1"

// corpusRecipe names how the trees are made, for the cache: a change of what is below needs another name.
const corpusRecipe = "1 " + smallBump

// quiet are npm's flags: nothing that a package brings is run, and the lock file does not name a registry.
var quiet = []string{"--ignore-scripts", "--no-audit", "--no-fund", "--omit-lockfile-registry-resolved", "--legacy-peer-deps", "--save-exact",
	"--loglevel=error"}

// Corpus returns the directory of the trees, made on first use and then kept: 38,000 files of 215 MB each. Lock files pin
// every package by its digest; the service's own files are the same on every machine. Nobody may write there.
func Corpus(t testing.TB) (dir string) {
	t.Helper()
	var locks []string
	for _, tree := range []string{"A", "B-big"} {
		for _, name := range []string{"package.json", "package-lock.json"} {
			locks = append(locks, filepath.Join(Root(t), "test/parts/testdata/corpus", tree, name))
		}
	}
	dir = filepath.Join(cacheDir(t), "corpus-"+hash(t, corpusRecipe, locks...))
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	defer lock(t, "corpus")()
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	need(t, "npm", "npm")
	t.Log("making the corpus; npm fetches 812 packages")
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		t.Fatal(err)
	}
	copyIn := func(tree string, from []string) {
		for _, path := range from {
			data, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(filepath.Join(tree, filepath.Base(path)), data, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	npm := func(tree string, args ...string) {
		cmd := exec.Command("npm", append(args, quiet...)...)
		cmd.Dir = tree
		if out, err := cmd.CombinedOutput(); err != nil {
			Skip(t, fmt.Sprintf("the corpus: npm %s: %v\n%s", args[0], err, tail(out)))
		}
	}
	a, code, b, big := filepath.Join(part, "A"), filepath.Join(part, "B-code"), filepath.Join(part, "B"), filepath.Join(part, "B-big")
	if err := os.MkdirAll(a, 0o755); err != nil {
		t.Fatal(err)
	}
	copyIn(a, locks[:2])
	npm(a, "ci")
	if err := writeService(filepath.Join(a, "dist")); err != nil {
		t.Fatal(err)
	}
	for _, next := range []struct {
		from, to, release string
		move              func()
	}{
		{a, code, "B-code", func() {}},
		{a, b, "B", func() { npm(b, "install", smallBump) }},
		{b, big, "B-big", func() { copyIn(big, locks[2:]); npm(big, "install") }},
	} {
		run(t, exec.Command("cp", "-a", next.from, next.to))
		if err := editService(filepath.Join(next.to, "dist"), next.release); err != nil {
			t.Fatal(err)
		}
		next.move()
	}
	if err := os.Rename(part, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// writeService writes the service's own files: a server, and sixty modules of some 12 kB as a compiler leaves them.
func writeService(dist string) error {
	if err := os.MkdirAll(filepath.Join(dist, "routes"), 0o755); err != nil {
		return err
	}
	for file := range 60 {
		random := rand.New(rand.NewPCG(uint64(file), 7))
		var text bytes.Buffer
		text.WriteString("\"use strict\";\nObject.defineProperty(exports, \"__esModule\", { value: true });\n")
		for n := range 110 {
			fmt.Fprintf(&text, "exports.route_%d_%d = async (request, reply) => { reply.send({ id: %d, found: request.query.key_%d !== undefined }); };\n",
				file, n, random.IntN(1e6), random.IntN(100))
		}
		if err := os.WriteFile(filepath.Join(dist, "routes", fmt.Sprintf("route-%02d.js", file)), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	server := "\"use strict\";\nrequire(\"http\").createServer((_, reply) => reply.end(\"ok\")).listen(process.env.PORT || 3000);\n"
	if err := os.WriteFile(filepath.Join(dist, "server.js"), []byte(server), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dist, "RELEASE"), []byte("A\n"), 0o644)
}

// editService changes five of the service's files as a small change does: a line more in four, another release in the fifth.
func editService(dist, release string) error {
	for _, file := range []int{3, 17, 29, 44} {
		f, err := os.OpenFile(filepath.Join(dist, "routes", fmt.Sprintf("route-%02d.js", file)), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(f, "exports.added_%d = (left, right) => left + right; // in %s\n", file, release)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dist, "RELEASE"), []byte(release+"\n"), 0o644)
}
