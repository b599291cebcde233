package deploy

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/journal"
	"github.com/towline/towline/internal/release"
)

// fullLedger is a ledger that remembers as much as there is room for, with messages of the form.
func fullLedger(message string) *ledger {
	l := &ledger{HighSeq: keepAccepted}
	for i := range keepAccepted {
		id := fmt.Sprintf("%064x", i)
		l.Accepted = append(l.Accepted, accepted{
			Seq: uint64(i + 1), Digest: fmt.Sprintf("%064d", i), ID: id, Hash: id[:40], Msg: message, Date: "2026-11-26T17:00:00Z",
			Modified: time.Date(2026, 11, 26, 17, 0, 0, 0, time.UTC), Healthy: true, Outcome: deployment.RolledBack,
		})
		l.Trail = append(l.Trail, id)
	}
	l.Followed = l.Accepted[keepAccepted-1].Digest
	return l
}

// BenchmarkSave measures what a change of the state costs with so many pointers in it.
func BenchmarkSave(b *testing.B) {
	for _, n := range []int{10, 100, keepAccepted} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			j, err := journal.Open(filepath.Join(b.TempDir(), "state"))
			if err != nil {
				b.Fatal(err)
			}
			l := fullLedger(strings.Repeat("m", 50))
			l.Accepted, l.Trail = l.Accepted[keepAccepted-n:], l.Trail[keepAccepted-n:]
			size := 0
			for b.Loop() {
				data, err := json.Marshal(l)
				if err != nil {
					b.Fatal(err)
				}
				size = len(data)
				if err := j.Save(data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(size), "bytes")
		})
	}
}

// A server that has followed as many pointers as are remembered, each with the longest message, can still write its state down
// and read it back.
func TestFullStateIsSavedAndLoaded(t *testing.T) {
	for _, c := range []struct {
		name, message string
		most          int
	}{
		{"as people write", strings.Repeat("m", 50), 450 << 10},
		{"longest", strings.Repeat("<", release.MaxMessage), 1600 << 10}, // six bytes each in the file
	} {
		t.Run(c.name, func(t *testing.T) {
			j, err := journal.Open(filepath.Join(t.TempDir(), "state"))
			if err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(fullLedger(c.message))
			if err != nil {
				t.Fatal(err)
			}
			if len(data) > c.most {
				t.Errorf("got a state of %d bytes, want at most %d", len(data), c.most)
			}
			if err := j.Save(data); err != nil {
				t.Fatal(err)
			}
			if data, err = j.Load(); err != nil {
				t.Fatal(err)
			}
			got, err := readLedger(data)
			if err != nil || len(got.Accepted) != keepAccepted || len(got.Trail) != keepAccepted || got.Accepted[0].Msg != c.message {
				t.Errorf("got %d accepted, a trail of %d, %v; want %d of each", len(got.Accepted), len(got.Trail), err, keepAccepted)
			}
		})
	}
}

// The trail is bounded as the pointers are: a server that goes back and forth makes no new ones.
func TestTrailIsBounded(t *testing.T) {
	l := &ledger{Trees: []tree{{Name: "1-a", ID: "a"}, {Name: "2-b", ID: "b"}}}
	for i := range uint64(keepAccepted + 10) {
		l.arrived(l.Trees[i%2].Name, i, time.Time{})
	}
	if got := len(l.Trail); got != keepAccepted {
		t.Errorf("got %d steps, want %d", got, keepAccepted)
	}
}

// States of older agents have the artifact's digest twice. It is read, listed and written once.
func TestStateOfAnOlderAgent(t *testing.T) {
	id := strings.Repeat("ab", 32)
	old := `{"high_seq":2,"followed":"d2","accepted":[` +
		`{"seq":1,"digest":"d1","id":"plain:v1","hash":"v1","healthy":true,"outcome":"deployed"},` +
		`{"seq":2,"digest":"d2","id":"` + id + `","hash":"v2","msg":"two","sha256":"` + id + `","healthy":true}],"count":2}`
	l, err := readLedger([]byte(old))
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Accepted[0].sha256(); got != "" {
		t.Errorf("plain: got %q, want no digest", got)
	}
	if got := l.Accepted[1].sha256(); got != id {
		t.Errorf("got %q, want %q", got, id)
	}
	if !l.healthyOnce(id) {
		t.Errorf("%s is not known to have been healthy", id)
	}
	data, err := json.Marshal(&l)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(data), id); got != 1 {
		t.Errorf("got the digest %d times, want once: %s", got, data)
	}
}
