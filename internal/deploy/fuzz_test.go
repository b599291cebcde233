package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// memory is a server without disk, network or app: a journal that holds one state, a tree that has every release and notes
// the names that it is given, a bucket in which nothing is published.
type memory struct {
	state   []byte
	names   []string
	current string
	fail    bool // the service cannot be restarted
}

var errNone = errors.New("there is no disk")

func (m *memory) Load() ([]byte, error)   { return m.state, nil }
func (m *memory) Save(state []byte) error { m.state = state; return nil }
func (m *memory) Add(r deployment.Record) error {
	m.names = append(m.names, "record "+r.ID)
	return nil
}
func (m *memory) Records(int) ([]deployment.Record, error) { return nil, nil }
func (m *memory) Path() string                             { return "/srv/web" }
func (m *memory) ReleasePath(name string) string           { return filepath.Join("/srv/web/releases", name) }
func (m *memory) Current() (string, error)                 { return m.current, nil }
func (m *memory) Has(name string) bool                     { m.names = append(m.names, name); return true }
func (m *memory) Names() ([]string, error)                 { return nil, nil }
func (m *memory) Switch(name string) error {
	m.names = append(m.names, name)
	m.current = name
	return nil
}
func (m *memory) Clear() error                     { m.current = ""; return nil }
func (m *memory) Stage() (string, *os.Root, error) { return "", nil, errNone }
func (m *memory) Recycle(name string) (string, *os.Root, error) {
	m.names = append(m.names, name)
	return "", nil, errNone
}
func (m *memory) Seal(_, name string, _ []string) (deployment.Sealed, error) {
	m.names = append(m.names, name)
	return deployment.Sealed{}, nil
}
func (m *memory) Moment() string                             { return "" }
func (m *memory) Discard(string) error                       { return nil }
func (m *memory) Remove(name string) error                   { m.names = append(m.names, name); return nil }
func (m *memory) Sweep(keep func(string) bool, _ bool) error { keep("1-abc"); return nil }
func (m *memory) Begin() (string, *os.Root, error)           { return "", nil, errNone }
func (m *memory) Resume() (string, *os.Root, error)          { return "", nil, errNone }
func (m *memory) Notes(string) (*os.File, error)             { return nil, errNone }
func (m *memory) Leave(string)                               {}
func (m *memory) DiscardBegun() error                        { return nil }
func (m *memory) Incoming(string) (*os.File, int64, error)   { return nil, 0, errNone }
func (m *memory) ClearIncoming() error                       { return nil }
func (m *memory) Space() (int64, int64, error)               { return 1 << 40, 1 << 20, nil }
func (m *memory) Look(context.Context, string) (Look, error) { return Look{}, fs.ErrNotExist }
func (m *memory) History(context.Context, string) (release.Verified, error) {
	return release.Verified{}, fs.ErrNotExist
}
func (m *memory) Offers(context.Context, release.Pointer) error { return errNone }
func (m *memory) Fetch(context.Context, release.Pointer, *os.File, int64, func(int64)) error {
	return errNone
}
func (m *memory) Check(context.Context) error { return nil }
func (m *memory) Restart(context.Context) error {
	if m.fail {
		return errNone
	}
	return nil
}
func (m *memory) Stop(context.Context) error { return nil }
func (m *memory) State(context.Context) (deployment.UnitState, error) {
	return deployment.UnitState{}, nil
}
func (m *memory) Log(context.Context, int) ([]string, error)  { return nil, nil }
func (m *memory) StartedFrom(context.Context) (string, error) { return "", nil }
func (m *memory) GoingDown(context.Context) bool              { return false }

func (m *memory) engine(t *testing.T) *Engine {
	t.Helper()
	e, err := New(Options{
		Key: "web", App: "web", Environment: "production", Server: "s1", AgentVersion: release.Version,
		Poll: time.Hour, Keep: 3, Source: m, Tree: m, Service: m, Journal: m,
		Check: func(context.Context, deployment.UnitState, string, func(string)) error { return nil },
		Unpack: func(context.Context, *os.File, *os.Root, release.Pointer, func(string), func(int64)) (string, error) {
			return "", errNone
		},
		OnEvent: func(deployment.Event) {}, OnReceipt: func(deployment.Receipt) {},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// FuzzState starts an engine on arbitrary bytes as its state: it is locked, or it takes up what the state says, touches
// only what is named as a release, never lowers the mark, and leaves a state that the next engine can read.
func FuzzState(f *testing.F) {
	when := time.Date(2026, 11, 23, 13, 6, 43, 0, time.UTC)
	sum := strings.Repeat("ab", 32)
	p := release.Pointer{
		Type: release.PointerType, MinAgent: release.MinAgent, App: "web", Environment: "production", Seq: 7, Prev: sum,
		Release:  release.Release{Hash: "e02371ab6db3", Msg: "m", Date: "2026-11-23T13:06:43Z"},
		Artifact: release.Artifact{Key: "k", SHA256: sum, Size: 10, UnpackedSize: 10, Entries: 1, Format: release.FormatZstd},
		Kind:     release.KindDeploy, Created: "2026-11-23T13:06:50Z", Expires: "2096-11-23T13:06:50Z",
	}
	base := ledger{
		HighSeq: 7, Followed: sum, Modified: when, Count: 3, Since: when, Trail: []string{"a", sum},
		Accepted: []accepted{{Seq: 6, Digest: "a", ID: "a", Hash: "v1", Healthy: true, Outcome: deployment.Deployed}, {Seq: 7, Digest: sum, ID: sum, Hash: p.Release.Hash}},
		Trees:    []tree{{Name: "6-v1", ID: "a", Seq: 6, Hash: "v1", Healthy: true, Used: 2}, {Name: "7-e02371ab6db3", ID: sum, Seq: 7, Hash: p.Release.Hash}},
	}
	add := func(change func(*ledger)) {
		l := base
		change(&l)
		data, err := json.Marshal(&l)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "6-v1", false)
		f.Add(data, "7-e02371ab6db3", true)
	}
	add(func(*ledger) {})
	add(func(l *ledger) { *l = ledger{} })
	add(func(l *ledger) { l.Held, l.Override = "why", sum })
	add(func(l *ledger) { l.Plain, l.Trees[0].Name = 3, "p3-v1" })
	for _, phase := range []deployment.Step{deployment.Fetch, deployment.Unpack, deployment.Activate, deployment.Check, deployment.Confirm} {
		for _, failure := range []string{"", "it failed"} {
			add(func(l *ledger) {
				l.Attempt = &attempt{
					ID: "000003-20261123T130643Z", Number: 3, Digest: sum, Pointer: p, From: "6-v1", To: "7-e02371ab6db3", Made: true,
					Phase: phase, Failure: failure, Interruptions: 1, Started: when, N: 2, Events: []deployment.Event{{N: 1}, {N: 2}},
				}
			})
		}
	}
	for _, odd := range []string{"", "null", "{}", "[]", `{"attempt":{}}`, `{"high_seq":-1}`, `{"trees":[{"name":"../../etc"}]}`, `{"accepted":null,"trail":[null]}`} {
		f.Add([]byte(odd), "", false)
	}

	f.Fuzz(func(t *testing.T, data []byte, current string, fail bool) {
		if current != "" && !treeName.MatchString(current) {
			current = ""
		}
		m := &memory{state: data, current: current, fail: fail}
		e := m.engine(t)
		if e.locked != nil {
			if !errors.Is(e.locked, ErrLocked) || e.Ready(t.Context()) == nil {
				t.Errorf("locked with %v, ready: %v", e.locked, e.Ready(t.Context()))
			}
		} else if err := e.state.check(); err != nil {
			t.Errorf("an unsound state was loaded: %v", err)
		}
		mark, attempted := e.state.HighSeq, e.state.Attempt != nil
		_ = e.Receipt()
		_ = e.Detail()
		_, err := e.Once(t.Context())
		if err == nil && !attempted {
			t.Error("an outcome out of nothing")
		}
		_ = e.Receipt()
		_ = e.Detail()
		if e.state.HighSeq < mark {
			t.Errorf("the mark went down from %d to %d", mark, e.state.HighSeq)
		}
		if locked := e.locked != nil; locked != (m.engine(t).locked != nil) {
			t.Errorf("the state that was left is locked: %v, before: %v: %s", !locked, locked, m.state)
		}
		for _, name := range m.names {
			if id, ok := strings.CutPrefix(name, "record "); ok && !attemptID.MatchString(id) || !ok && !treeName.MatchString(name) {
				t.Errorf("the engine asks for %q: %s", name, fmt.Sprintf("%.300q", data))
			}
		}
	})
}
