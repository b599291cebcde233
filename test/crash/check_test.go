package crash

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/towline/towline/internal/deployment"
)

// sorted are the paths of a tree, parents first.
func sorted(tree map[string]entry) []string {
	return slices.SortedFunc(maps.Keys(tree), func(a, b string) int { return cmp.Compare(a, b) })
}

// live names the version that current leads to, "" when there is no current. It is an error if what current leads to is not
// exactly one of the published releases.
func (k *worker) live() (string, error) {
	to, err := os.Readlink(filepath.Join(k.disk, "web/current"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	name, ok := strings.CutPrefix(to, "releases/")
	if !ok {
		return "", fmt.Errorf("current leads to %q", to)
	}
	version, err := k.holds(name)
	if err != nil {
		return "", fmt.Errorf("current leads to %s: %w", to, err)
	}
	// What is shared was made before the first release that links to it.
	if info, err := os.Stat(filepath.Join(k.disk, "web/current/data")); err != nil || !info.IsDir() {
		return "", fmt.Errorf("the shared directory of %s: %v, %w", to, info, err)
	}
	// Before a release is made live its pointer's number is on the disk: no older pointer is followed after a crash.
	if state, err := k.state(); err != nil {
		return "", fmt.Errorf("current leads to %s: %w", to, err)
	} else if seq := seqOf(name); state.HighSeq < seq {
		return "", fmt.Errorf("current leads to %s, and the state knows pointers up to %d", to, state.HighSeq)
	}
	return version, nil
}

// seqOf is the number in the name of a release's directory.
func seqOf(name string) (seq uint64) {
	_, _ = fmt.Sscanf(name, "%d-", &seq)
	return seq
}

// state is what this test wants to know of the agent's memory.
type state struct {
	HighSeq uint64           `json:"high_seq"`
	Attempt *json.RawMessage `json:"attempt"`
	Trees   []struct {
		Name string `json:"name"`
	} `json:"trees"`
}

// state reads the agent's memory, past the agent's own code, which puts it in order.
func (k *worker) state() (s state, err error) {
	data, err := os.ReadFile(filepath.Join(k.disk, "state/apps/web/state.json"))
	if err != nil {
		return s, err
	}
	sealed := struct {
		State *state `json:"state"`
	}{&s}
	return s, json.Unmarshal(data, &sealed)
}

// known is what must hold at any moment: a directory that the state names is a release, whole. What is recycled is not named from
// before the first change in it on.
func (k *worker) known() error {
	state, err := k.state()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, t := range state.Trees {
		if _, herr := k.holds(t.Name); herr != nil {
			err = errors.Join(err, fmt.Errorf("the state names %s: %w", t.Name, herr))
		}
	}
	return err
}

// told is what must hold once the agent has said how its deployment ended: that stays.
func (k *worker) told(s scenario) error {
	version, err := k.live()
	if err != nil {
		return err
	}
	if version != s.ends {
		return fmt.Errorf("got %q live, want %q", version, s.ends)
	}
	if state, err := k.state(); err != nil {
		return err
	} else if state.Attempt != nil {
		return errors.New("got a deployment under way, want none")
	}
	records, err := filepath.Glob(filepath.Join(k.disk, "state/apps/web/deployments/*.json"))
	if want := len(s.before) + 1; err != nil || len(records) != want {
		return fmt.Errorf("got records %q, %v, want %d", records, err, want)
	}
	data, err := os.ReadFile(records[len(records)-1])
	if err != nil {
		return err
	}
	var last deployment.Record
	if err := json.Unmarshal(data, &last); err != nil || last.Outcome == "" {
		return fmt.Errorf("got the record %q, %v", data, err)
	}
	return nil
}

// holds names the version that the release directory holds, or says how it differs from what was published.
func (k *worker) holds(name string) (string, error) {
	dir := filepath.Join(k.disk, "web/releases", name)
	text, err := os.ReadFile(filepath.Join(dir, "version"))
	if err != nil {
		return "", err
	}
	version := strings.TrimSpace(string(text))
	want := maps.Clone(k.trees[version])
	if want == nil {
		return "", fmt.Errorf("its version is %q", text)
	}
	want["data"] = entry{Mode: fs.ModeSymlink | 0o777, Text: "../../shared/data"}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		got := entry{Mode: info.Mode()}
		switch info.Mode().Type() {
		case fs.ModeSymlink:
			got.Text, err = os.Readlink(path)
		case 0:
			var data []byte
			data, err = os.ReadFile(path)
			got.Text = string(data)
		}
		if err != nil {
			return err
		}
		if e, ok := want[rel]; !ok || e != got {
			return fmt.Errorf("%s of %s: got %v and %d bytes, want %v and %d", rel, version, got.Mode, len(got.Text), e.Mode, len(e.Text))
		}
		delete(want, rel)
		return nil
	})
	if err == nil && len(want) > 0 {
		err = fmt.Errorf("%s lacks %q", version, sorted(want))
	}
	return version, err
}

// scenario is one step of an app's life.
type scenario struct {
	name   string
	before []stage  // what the agent has seen, one after the other
	now    stage    // what it meets
	live   []string // what may be live at any moment
	ends   string   // what is live at the end
	code   int      // with which exit code it ends
}

// scenarios are all of them.
func (w *world) scenarios() []scenario {
	s := w.stages
	ok, bad := deployment.ExitOK, deployment.ExitUnwell
	return []scenario{
		{"first", nil, s["one"], []string{"", "one"}, "one", ok},
		{"second", []stage{s["one"]}, s["two"], []string{"one", "two"}, "two", ok},
		{"prune", []stage{s["one"], s["two"]}, s["four"], []string{"two", "four"}, "four", ok},
		{"rolled back", []stage{s["one"], s["two"]}, s["bad"], []string{"two", "bad"}, "two", bad},
		{"first bad", nil, s["bad"], []string{"", "bad"}, "", deployment.ExitError},
		{"restored", []stage{s["one"], s["two"], s["four"]}, w.back, []string{"four", "two"}, "two", ok},
		{"recycled", three(s["one"], s["two"], s["four"]), w.next.recycling(), []string{"four", "five"}, "five", ok},
		{"recycled bad", three(s["one"], s["two"], s["four"], w.next), w.worse.recycling(), []string{"five", "bad-six"}, "five", bad},
	}
}

// three are the stages for an agent that keeps three releases.
func three(stages ...stage) (out []stage) {
	for _, s := range stages {
		out = append(out, s.recycling())
	}
	return out
}

// after is what is published after the scenario, and which release that is.
func (w *world) after(s scenario) (stage, string) {
	if s.ends == "five" {
		return w.last.recycling(), "seven"
	}
	return w.next, "five"
}

// torn is what must hold whenever the agent has died: what is live is one of the scenario's releases, whole.
func (k *worker) torn(s scenario) error {
	version, err := k.live()
	if err != nil {
		return err
	}
	if !slices.Contains(s.live, version) {
		return fmt.Errorf("got %q live, want one of %q", version, s.live)
	}
	return k.known()
}

// settled is what must hold at the end: the right release is live, every other one on disk is whole, and nothing
// half-made is left.
func (k *worker) settled(want string) error {
	version, err := k.live()
	if err != nil {
		return err
	}
	if version != want {
		return fmt.Errorf("got %q live, want %q", version, want)
	}
	if err := k.known(); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(k.disk, "web/releases"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := k.holds(e.Name()); err != nil {
			return fmt.Errorf("releases/%s: %w", e.Name(), err)
		}
	}
	left, err := os.ReadDir(filepath.Join(k.disk, "web/incoming"))
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("incoming/%s is left", left[0].Name())
	}
	for _, dir := range []string{"web", "state", "state/apps/web", "state/apps/web/deployments"} {
		entries, err := os.ReadDir(filepath.Join(k.disk, dir))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if strings.Contains(e.Name(), ".tmp") {
				return fmt.Errorf("%s/%s is left", dir, e.Name())
			}
		}
	}
	return nil
}
