// Package journal keeps what an agent must remember of one app across restarts and power cuts.
//
// A journal is a directory of its own, writable by the agent alone and apart from the app's tree, so that nothing an
// artifact or an app does can touch it:
//
//	state.json               the engine's state: one file, replaced atomically, with its own checksum
//	deployments/<id>.json    finished deployments with their events; the newest hundred
//	adopted.json             a release directory that root has made out of what ran before; see package deployment
//	trees/<hex>              what a release directory held when it was unpacked, under the hex SHA-256 of the file
//	trees/<hex>.inventory    which frame of its artifact brought what of it
//
// One process writes; package appdir's lock sees to that. The state is opaque here: the engine encodes it.
package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/durable"
)

// ErrCorrupt says that the state file is there but cannot be what was written.
var ErrCorrupt = errors.New("state is corrupt")

// keepRecords is how many finished deployments stay on disk.
const keepRecords = 100

// maxState bounds the size of the state file, in bytes.
const maxState = 16 << 20

// Journal is the memory of one app on one server.
type Journal struct{ dir string }

// Open makes the directory, readable by its owner only, and returns the journal in it. What a writer that died had not
// finished is deleted: it is for the one process that writes.
func Open(dir string) (*Journal, error) {
	if err := os.MkdirAll(filepath.Join(dir, "deployments"), 0o700); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	for _, name := range []string{".", "deployments", "trees"} {
		if err := sweep(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("open journal: %w", err)
		}
	}
	return &Journal{dir: dir}, nil
}

// sweep deletes the temporary files of a directory, whose names begin with a dot.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), ".") {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

type sealed struct {
	SHA256 string          `json:"sha256"` // of State, compacted
	State  json.RawMessage `json:"state"`
}

// Load returns the state as it was saved last. It is fs.ErrNotExist when none was ever saved and ErrCorrupt when the file
// does not carry its own checksum.
func (j *Journal) Load() ([]byte, error) {
	path := j.statePath()
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load state: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return nil, fmt.Errorf("load state: %w", err)
	}
	state, err := unseal(data)
	if err != nil {
		return nil, fmt.Errorf("load state %s: %w: %w", path, ErrCorrupt, err)
	}
	return state, nil
}

// unseal takes the state out of the file's bytes, which must be the very ones that seal gives for it.
func unseal(data []byte) ([]byte, error) {
	if len(data) > maxState {
		return nil, fmt.Errorf("more than %d bytes", maxState)
	}
	var s sealed
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	if got := checksum(s.State); got != s.SHA256 {
		return nil, errors.New("its checksum is wrong")
	}
	if again, err := seal(s.State); err != nil || !bytes.Equal(again, data) {
		return nil, errors.New("there is more in the file than the state and its checksum")
	}
	return s.State, nil
}

// seal puts a state, compact JSON, and its checksum into the file's bytes.
func seal(state []byte) ([]byte, error) {
	// Not json.Marshal, which would escape <, > and & inside of state and so break its checksum.
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false)
	err := enc.Encode(sealed{SHA256: checksum(state), State: state})
	return data.Bytes(), err
}

// Save replaces the state, durably: after nil the new one is read back even after a power cut. state must be compact
// JSON, as package json gives it.
func (j *Journal) Save(state []byte) error {
	data, err := seal(state)
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	if err := durable.WriteFile(j.statePath(), data, 0o600); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

// Add keeps a finished deployment and drops the oldest beyond the newest hundred. IDs sort by age.
func (j *Journal) Add(r deployment.Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("keep deployment %s: %w", r.ID, err)
	}
	if err := durable.WriteFile(filepath.Join(j.dir, "deployments", r.ID+".json"), data, 0o600); err != nil {
		return fmt.Errorf("keep deployment %s: %w", r.ID, err)
	}
	names, err := j.names()
	if err != nil {
		return err
	}
	for len(names) > keepRecords {
		if err := os.Remove(filepath.Join(j.dir, "deployments", names[0])); err != nil {
			return fmt.Errorf("drop old deployment: %w", err)
		}
		names = names[1:]
	}
	return nil
}

// Records returns the newest n finished deployments, newest first. One that cannot be read is left out: it is history,
// and history must not keep an app from being deployed.
func (j *Journal) Records(n int) ([]deployment.Record, error) {
	names, err := j.names()
	if err != nil {
		return nil, err
	}
	var out []deployment.Record
	for _, name := range slices.Backward(names) {
		if len(out) == n {
			break
		}
		data, err := os.ReadFile(filepath.Join(j.dir, "deployments", name))
		if err != nil {
			continue
		}
		var r deployment.Record
		if json.Unmarshal(data, &r) == nil {
			out = append(out, r)
		}
	}
	return out, nil
}

// names lists the files of finished deployments, oldest first.
func (j *Journal) names() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(j.dir, "deployments"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list deployments: %w", err)
	}
	var names []string
	for _, e := range entries { // ReadDir sorts
		if strings.HasSuffix(e.Name(), ".json") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (j *Journal) statePath() string { return filepath.Join(j.dir, "state.json") }

func checksum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
