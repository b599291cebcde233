package ping

import (
	"context"
	"iter"
	"sync"

	"github.com/towline/towline/internal/deployment"
)

const (
	maxEvents = 4096 // of one deployment; progress beyond is dropped, the rest is kept
	maxKept   = 3    // deployments per app
)

// Hub remembers the newest deployments of every app, event by event, so that whoever asks late sees them from the
// start. It holds nothing across a restart: an agent that resumes a deployment publishes the recorded events again.
// The zero value is ready.
type Hub struct {
	mu   sync.Mutex
	apps map[string]*track
}

// track is one app's deployments, oldest first.
type track struct {
	deployments []*story
	changed     chan struct{} // closed, and replaced, whenever an event comes
}

// story is one deployment's events. Only the newest of a track grows: an event of another deployment ends it.
type story struct {
	id     string
	seq    uint64
	hash   string
	events []deployment.Event
	ended  bool
}

// Publish adds an event to app's newest deployment, or begins a new one with it when the event names another. app is
// the key of the app in the agent's config. Events of a deployment that ended are dropped, and so are events whose
// number is not above the last. Every deployment must come to a terminal event, one that finds nothing to do included.
func (h *Hub) Publish(app string, event deployment.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.track(app)
	s := t.begin(event)
	if s.ended || len(s.events) > 0 && event.N <= s.events[len(s.events)-1].N {
		return
	}
	if len(s.events) >= maxEvents && event.State == deployment.Progress && !event.Terminal() {
		return
	}
	s.events = append(s.events, event)
	s.ended = event.Terminal()
	close(t.changed)
	t.changed = make(chan struct{})
}

func (h *Hub) track(app string) *track {
	if h.apps == nil {
		h.apps = map[string]*track{}
	}
	t := h.apps[app]
	if t == nil {
		t = &track{changed: make(chan struct{})}
		h.apps[app] = t
	}
	return t
}

// begin returns the deployment that event belongs to: one that is known, or a new one, which ends the others.
func (t *track) begin(event deployment.Event) *story {
	for _, s := range t.deployments {
		if s.id == event.Deployment {
			return s
		}
	}
	for _, s := range t.deployments {
		s.ended = true
	}
	s := &story{id: event.Deployment, seq: event.Seq, hash: event.Hash}
	t.deployments = append(t.deployments, s)
	if over := len(t.deployments) - maxKept; over > 0 {
		t.deployments = append([]*story(nil), t.deployments[over:]...)
	}
	return s
}

// Knows reports whether a follower of seq would be shown a deployment now. An agent that finds nothing to do publishes
// a terminal event of its own only when it does not, so that a repeated ping still replays the true story.
func (h *Hub) Knows(app string, seq uint64, hash string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.track(app).find(seq, hash, nil) != nil
}

// Follow yields the events of app's newest deployment of seq, or of a higher one, from the first to the terminal one;
// it waits for it to begin, and goes over to the next when one is cut short. seq 0 stands for plain pointers, which
// are told apart by hash. It ends early when ctx does.
func (h *Hub) Follow(ctx context.Context, app string, seq uint64, hash string) iter.Seq[deployment.Event] {
	return func(yield func(deployment.Event) bool) {
		var s *story
		next := 0
		for {
			h.mu.Lock()
			t := h.track(app)
			if s == nil || s.ended && next == len(s.events) {
				s, next = t.find(seq, hash, s), 0
			}
			var fresh []deployment.Event
			if s != nil {
				fresh = s.events[next:]
			}
			changed := t.changed
			h.mu.Unlock()

			for _, event := range fresh {
				if ctx.Err() != nil || !yield(event) || event.Terminal() {
					return
				}
				next++
			}
			if len(fresh) > 0 {
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

// find is the newest deployment that answers a follower, nil while there is none. One that was cut short is none.
func (t *track) find(seq uint64, hash string, not *story) *story {
	for i := len(t.deployments) - 1; i >= 0; i-- {
		s := t.deployments[i]
		matches := s.seq >= seq && seq > 0 || seq == 0 && s.hash == hash
		whole := !s.ended || s.events[len(s.events)-1].Terminal()
		if matches && whole && s != not {
			return s
		}
	}
	return nil
}
