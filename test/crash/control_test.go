package crash

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/towline/towline/test/crash/blocks"
	"github.com/towline/towline/test/parts"
)

var (
	control    = flag.Int("control", 120, "images of each filesystem in which TestControl must find that an fsync is missing")
	everywhere = flag.Bool("everywhere", false, "let TestControl look on every filesystem, and for what none of them shows")
)

// omission is one call of the agent that makes something durable, left out.
type omission struct {
	name string
	file string // below internal/
	old  string
	new  string
	// implied says why no power cut on these filesystems shows that the call is missing; empty where one does. POSIX promises nothing
	// without the call, so that it stays.
	implied string
}

// omissions are all calls that the agent makes on the server's disk, and what it writes down before it touches a directory that
// the state names.
var omissions = []omission{
	{"file of the state, a record", "durable/durable.go", "if err = f.Sync(); err != nil {", "if err = error(nil); err != nil {", ""},
	{"directory of the state, a record", "durable/durable.go", "os.Rename(f.Name(), path); err != nil {\n\t\treturn err\n\t}\n\treturn SyncDir(dir)", "os.Rename(f.Name(), path); err != nil {\n\t\treturn err\n\t}\n\treturn nil", ""},
	{"directory of releases after a rename within", "durable/durable.go", "if err := SyncDir(to); err != nil {", "if err := error(nil); err != nil {", "a release that is removed is renamed and emptied, and each of the three keeps that order"},
	{"directory of current", "durable/durable.go", "return fmt.Errorf(\"link %s: %w\", path, err)\n\t}\n\treturn SyncDir(dir)", "return fmt.Errorf(\"link %s: %w\", path, err)\n\t}\n\treturn nil", ""},
	{"directory of a link that is removed", "durable/durable.go", "return SyncDir(filepath.Dir(path))", "return nil", "the state is written next, and its fsync takes the removal along"},
	{"contents of the stage", "appdir/stage.go", "if err := unix.Syncfs(int(made.syncer.Fd())); err != nil {", "if err := error(nil); err != nil {", ""},
	{"each of the stage", "appdir/sync.go", "var fsync = (*os.File).Sync", "var fsync = func(*os.File) error { return nil }", "syncfs does it all, and tells; this is for kernels before 5.8"},
	{"directory of releases after the stage got its name", "appdir/stage.go", "if err := durable.SyncDir(d.releases()); err != nil {", "_ = durable.SyncDir\n\tif err := error(nil); err != nil {", ""},
	{"the state without what is recycled", "deploy/bring.go", "a.Phase = now, deployment.Unpack; l.dropTree(base.Name) })", "a.Phase = now, deployment.Unpack })", ""},
	{"what is made below shared", "appdir/stage.go", "return f.Sync()", "return nil", "the release is synced next, with all of its filesystem"},
}

// TestOmissionsAreAll looks for calls in the agent's rooms that are not among the omissions.
func TestOmissionsAreAll(t *testing.T) {
	root := parts.Root(t)
	call := regexp.MustCompile(`\.Sync\(\)|\bSyncDir\(|Syncfs\(|Fsync\(|Fdatasync\(`)
	for _, room := range []string{"agent", "appdir", "artifact", "config", "deploy", "durable", "health", "journal", "service"} {
		err := filepath.WalkDir(filepath.Join(root, "internal", room), func(path string, d os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text := string(data)
			rel, err := filepath.Rel(filepath.Join(root, "internal"), path)
			for _, o := range omissions {
				if o.file == rel {
					if n := strings.Count(text, o.old); n != 1 {
						t.Errorf("%s: got %d times %q, want it once", rel, n, o.old)
					}
					text = strings.Replace(text, o.old, "", 1)
				}
			}
			if rel == "config/edit.go" || rel == "journal/adopted.go" {
				return err // what a person's command writes, not the agent
			}
			for line := range strings.Lines(text) {
				known := strings.Contains(line, "func SyncDir(") || strings.Contains(line, "err = d.Sync()") || // what the others call
					strings.Contains(line, "return SyncDir(from)") || // between two directories: nothing of the agent's does that
					strings.Contains(line, "unix.Syncfs(s.site.fd)") // for memory, before the sync of the stage
				if call.MatchString(line) && !known {
					t.Errorf("%s: %s: no power cut is tried without it", rel, strings.TrimSpace(line))
				}
			}
			return err
		})
		must(t, err)
	}
}

// without compiles an agent that leaves something out, from a copy of one file.
func (w *world) without(t *testing.T, o omission) *world {
	t.Helper()
	dir, root := t.TempDir(), parts.Root(t)
	path := filepath.Join(root, "internal", o.file)
	data, err := os.ReadFile(path)
	must(t, err)
	changed := filepath.Join(dir, filepath.Base(path))
	must(t, os.WriteFile(changed, []byte(strings.Replace(string(data), o.old, o.new, 1)), 0o644))
	overlay := filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	must(t, err)
	must(t, os.WriteFile(overlay, text, 0o644))
	out := *w
	out.agent = filepath.Join(dir, "towline-agent")
	cmd := exec.Command("go", "build", "-overlay", overlay, "-trimpath", "-ldflags=-s -w", "-o", out.agent, "./cmd/towline-agent")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	run(t, cmd)
	return &out
}

// TestControl leaves out one call after the other, and the power cuts must find it on one filesystem at least.
func TestControl(t *testing.T) {
	w := newWorld(t)
	var table []string
	for _, o := range omissions {
		t.Run(o.name, func(t *testing.T) {
			if o.implied != "" && !*everywhere {
				t.Logf("not looked for: %s", o.implied)
				return
			}
			mutant := w.without(t, o)
			found := 0
			row := o.name
			for _, f := range filesystems {
				if f.name != "btrfs" && !*everywhere { // which orders the least by itself, and so is the first to show it
					continue
				}
				images, what := hunt(t, mutant, w, f, *control)
				row += fmt.Sprintf(" | %s: ", f.name)
				if what == nil {
					row += fmt.Sprintf("not in %d images", images)
					continue
				}
				found++
				row += fmt.Sprintf("image %d: %.120q", images, what.Error())
			}
			table = append(table, row)
			if found == 0 && o.implied == "" {
				t.Errorf("got no torn, lost or unrecovered image, want one: %s", row)
			}
		})
	}
	t.Logf("left out | caught on\n%s", strings.Join(table, "\n"))
}

// hunt records the scenarios with an agent that leaves something out and looks for an image that the whole agent w does not
// survive.
func hunt(t *testing.T, mutant, w *world, f filesystem, n int) (images int, what error) {
	m := newMedium(t, mutant, f)
	random := rand.New(rand.NewPCG(*seed, 2))
	for _, s := range w.scenarios() {
		m.agent = mutant.agent
		r := m.record(t, s)
		m.worker.world = w
		var some []blocks.Image
		r.Images(1, random, func(i blocks.Image) bool {
			some = append(some, i)
			return true
		})
		random.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		for _, i := range some[:min(len(some), n/len(w.scenarios()))] {
			images++
			if what = m.survives(t, r, i); what != nil {
				return images, fmt.Errorf("%s, %s: %w", s.name, i.Kind, what)
			}
		}
		m.worker.world = mutant
	}
	return images, nil
}
