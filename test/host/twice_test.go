package host

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

// TestTwoAgents starts a second agent that shares one thing with the first. It ends with code 5 and says which thing; the first
// does not notice.
func TestTwoAgents(t *testing.T) {
	first := newWorld(t)
	listen := parts.FreeAddr(t)
	first.settings = "poll: 1s\ntls: off\nlisten: \"" + listen + "\"\n"
	first.publish("one")
	first.start()
	eventually(t, "the first deploys", func() (bool, string) { return first.live() == "one", first.live() })
	for _, test := range []struct {
		name  string
		share func(second *world)
		words string
	}{
		{"state", func(w *world) { w.state = first.state }, "lock state directory " + first.state},
		{"app", func(w *world) { w.app = first.app }, "lock app directory " + first.app},
		{"socket", func(w *world) { w.dir = first.dir }, "socket " + first.socket()},
		{"port", func(w *world) { w.settings = "tls: off\nlisten: \"" + listen + "\"\n" }, "listen on " + listen + ": the address is in use"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.bucket, w.url, w.key = first.bucket, first.url, first.key
			test.share(w)
			began := time.Now()
			w.fails(deployment.ExitHeld, "towline-agent: ", test.words, "hint: is towline-agent.service running?")
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %v to say so", took)
			}
			if test.name == "state" || test.name == "app" {
				w.ends(deployment.ExitHeld, test.words)
			}
		})
	}
	first.config() // which the second with the same directory has written anew
	first.publish("two")
	eventually(t, "the first deploys on", func() (bool, string) { return first.live() == "two", first.live() })
	if got := first.status(); got.Live.Hash != "two" || filepath.Base(first.app) != "web" {
		t.Errorf("got %+v", got)
	}
}
