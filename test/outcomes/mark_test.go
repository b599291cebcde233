package outcomes

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/test/fakegithub"
)

// marks are what the world looked like at the moments at which the job called back.
type marks struct {
	w      *world
	mu     sync.Mutex
	before map[string]func()      // what is done once the mark of this name was taken, while the job waits
	later  map[string]func() bool // what is waited for before the mark of this name is taken
	at     map[string]*mark       // when the step of this name had ended
	next   map[string]*mark       // when the step after it was about to begin
}

// mark is the world at one moment.
type mark struct {
	outcome     string            // of the step before, as the workflow sees it: success or failure
	objects     map[string]string // key to ETag, of everything in the bucket but receipts
	requests    int               // to GitHub so far
	deployments []fakegithub.Deployment
	statuses    map[int64][]fakegithub.Status
	live        map[string]string // app to version
}

func (m *marks) take(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := r.PathValue("name")
	if holds := m.later[name]; holds != nil {
		eventually(m.w.t, "the server follows "+name, 10*time.Second, holds)
	}
	at := m.w.look()
	at.outcome = r.URL.Query().Get("outcome")
	m.at[name], m.next[name] = at, at
	if do := m.before[name]; do != nil {
		do()
		m.next[name] = m.w.look()
	}
	w.WriteHeader(http.StatusNoContent)
}

// look takes a mark.
func (w *world) look() *mark {
	at := &mark{
		objects: w.objects(), requests: len(w.github.Requests()), deployments: w.github.Deployments(),
		statuses: map[int64][]fakegithub.Status{}, live: map[string]string{},
	}
	for _, d := range at.deployments {
		at.statuses[d.ID] = w.github.Statuses(d.ID)
	}
	for _, app := range apps {
		at.live[app] = w.live(app)
	}
	return at
}

// objects is what lies in the bucket, but for the receipts, which the server writes when it likes.
func (w *world) objects() map[string]string {
	keys, err := w.store.List(w.t.Context(), "")
	if err != nil {
		w.t.Errorf("list the bucket: %v", err)
	}
	found := map[string]string{}
	for _, key := range keys {
		if strings.Contains(key, "/receipts/") {
			continue
		}
		info, err := w.store.Stat(w.t.Context(), key)
		if err != nil {
			w.t.Errorf("look at %s: %v", key, err)
		}
		found[key] = info.ETag
	}
	return found
}

// written are the keys that are in b and not in a, or with another content.
func written(a, b *mark) []string {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(b.objects)) {
		if a.objects[key] != b.objects[key] {
			keys = append(keys, key)
		}
	}
	return keys
}

// told are the statuses that came between a and b, by deployment, oldest deployment first.
func told(a, b *mark) (ids []int64, statuses map[int64][]fakegithub.Status) {
	statuses = map[int64][]fakegithub.Status{}
	for _, d := range b.deployments {
		if fresh := b.statuses[d.ID][len(a.statuses[d.ID]):]; len(fresh) > 0 {
			ids = append(ids, d.ID)
			statuses[d.ID] = fresh
		}
	}
	return ids, statuses
}
