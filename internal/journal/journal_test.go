package journal

import (
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
	for n := range len(whole) - 1 { // the last byte is a line end
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
