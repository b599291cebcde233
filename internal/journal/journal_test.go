package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/towline/towline/internal/deployment"
)

func open(t *testing.T) *Journal {
	t.Helper()
	j, err := Open(filepath.Join(t.TempDir(), "app"))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestStateSurvives(t *testing.T) {
	j := open(t)
	if _, err := j.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing saved: got %v, want fs.ErrNotExist", err)
	}
	for _, want := range []string{`{"high_seq":1}`, `{"high_seq":2,"text":"<&>"}`} {
		if err := j.Save([]byte(want)); err != nil {
			t.Fatal(err)
		}
		again := &Journal{dir: j.dir}
		got, err := again.Load()
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestTornStateIsCorrupt(t *testing.T) {
	j := open(t)
	if err := j.Save([]byte(`{"high_seq":184}`)); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(j.statePath())
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		if err := os.WriteFile(j.statePath(), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := j.Load(); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut at byte %d: got %s, %v, want ErrCorrupt", n, got, err)
		}
	}
}

func TestRecordsKeepTheNewest(t *testing.T) {
	j := open(t)
	for i := range keepRecords + 5 {
		if err := j.Add(deployment.Record{ID: fmt.Sprintf("%06d", i), Outcome: deployment.Deployed}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(j.dir, "deployments", "000104.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := j.Records(3)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].ID != "000103" || got[2].ID != "000101" {
		t.Errorf("got %+v, want the newest three that can be read, newest first", got)
	}
	all, err := j.Records(1000)
	if err != nil {
		t.Fatal(err)
	}
	if want := keepRecords - 1; len(all) != want {
		t.Errorf("got %d records, want %d", len(all), want)
	}
}

// FuzzSealed offers arbitrary bytes as the state's file: what is loaded must be what saving it again writes, and no byte
// of the file may differ from that.
func FuzzSealed(f *testing.F) {
	for _, state := range []string{`{"high_seq":1}`, `{"text":"<&>\u2028"}`, `null`, `""`, `[1,2]`, `{}`} {
		data, err := seal([]byte(state))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(append(data, data...))
		f.Add(append([]byte(" "), data...))
	}
	f.Add([]byte(`{"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		state, err := unseal(data)
		if err == nil {
			again, err := seal(state)
			if err != nil || !bytes.Equal(again, data) || !json.Valid(state) {
				t.Errorf("%q was loaded as %q, which is saved as %q, %v", data, state, again, err)
			}
		}
		// Any text can be a state, once it is sealed.
		if text, err := json.Marshal(string(data)); err != nil {
			t.Fatal(err)
		} else if sealed, err := seal(text); err != nil {
			t.Fatal(err)
		} else if got, err := unseal(sealed); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%q was saved and loaded as %q, %v", text, got, err)
		}
	})
}
