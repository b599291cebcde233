package threats

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// Four environments with one and the same key, which is the worst case: what is signed for one is nothing to the others,
// whether it comes as the pointer, as the release object or as a ping.
func TestCrossAppAndEnvironment(t *testing.T) {
	s := newSite(t)
	key := keygen(t)
	tracks := []track{
		{"web", "production", "web"},
		{"web", "staging", "web"},
		{"shop", "production", "shop"},
		{"web", "production", "copies/web"}, // the same names under another prefix
	}
	var servers []*server
	var running []*daemon
	var pointers [][]byte // each ahead of what all the servers follow
	for i, k := range tracks {
		app := fmt.Sprintf("  web:\n    app: %s\n    prefix: %s\n    environment: %s\n    dir: $srv/web\n    restart: [sh, -c, \"echo x >> $srv/web.restarts\"]\n",
			k.app, k.prefix, k.environment)
		first := fmt.Sprintf("first-%d", i)
		s.publisher(k, key).released(first)
		servers = append(servers, s.server(fmt.Sprintf("once-%d", i), trust(key), app))
		servers[i].once().want(t, deployment.ExitOK, "deployed "+first)
		running = append(running, s.server(fmt.Sprintf("daemon-%d", i), trust(key)+"listen: 127.0.0.1:0\n", app).start())
		running[i].settled(first)
	}
	for i, k := range tracks {
		ci := s.publisher(k, key)
		for range i {
			ci.released("between") // so that no two have the same seq
		}
		pointers = append(pointers, ci.released(fmt.Sprintf("second-%d", i)))
		ci.upload(fmt.Sprintf("spare-%d", i)).want(t, deployment.ExitOK)
	}
	foreign := []string{"it is for app", "it is for environment", "it names artifact"}
	for i, into := range tracks {
		own := s.get(into.pointer())
		for j, from := range tracks {
			if i == j {
				continue
			}
			name := fmt.Sprintf("%v for %v", from, into)
			s.put(into.pointer(), pointers[j])
			got := ran{}
			servers[i].untouched(deployment.ExitRefused, "verification failed", func() ran { got = servers[i].once(); return got })
			if !says(got.out, foreign) || !says(servers[i].says(into), foreign) {
				t.Errorf("%s: got\n%s\nand in the receipt %q, want one of %q", name, got.out, servers[i].says(into), foreign)
			}
			s.publisher(into, key).run("rollback").want(t, deployment.ExitRefused, into.pointer())

			before := running[i].footprint()
			// A signature that holds is told from one that does not; that it is for another app is all that is said.
			if status := running[i].ring(pointers[j]); status != http.StatusNotFound && status != http.StatusUnauthorized {
				t.Errorf("%s as a ping: got status %d, want 404 or 401", name, status)
			}
			running[i].ask("deploy", "web").want(t, deployment.ExitRefused, "verification failed")
			if after := running[i].footprint(); after != before {
				t.Errorf("%s as a ping: the server was touched", name)
			}
		}
		s.put(into.pointer(), own)
		swapManifests(t, s, key, tracks, i)
		servers[i].once().want(t, deployment.ExitOK, fmt.Sprintf("deployed second-%d", i))
		running[i].ask("deploy", "web").want(t, deployment.ExitOK)
		running[i].settled(fmt.Sprintf("second-%d", i))
	}
}

// swapManifests lays the release objects of the other apps where that of track i is, which no pointer has named yet, and
// promotes it.
func swapManifests(t *testing.T, s *site, key pair, tracks []track, i int) {
	t.Helper()
	into := tracks[i]
	mine := s.object(fmt.Sprintf("%s/releases/spare-%d-", into.prefix, i), ".json")
	own := s.get(mine)
	for j, from := range tracks {
		if from.prefix == into.prefix {
			continue // the environments of an app share its releases; that is what promote is for
		}
		s.put(mine, s.get(s.object(fmt.Sprintf("%s/releases/spare-%d-", from.prefix, j), ".json")))
		s.publisher(into, key).run("promote", fmt.Sprintf("spare-%d", i)).want(t, deployment.ExitRefused, "verification failed")
	}
	s.put(mine, own)
}

func says(text string, one []string) bool {
	for _, words := range one {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

// Two pointers with one seq, both well signed: somebody else has the key, or history was rewritten. Whichever comes second
// is refused, aloud, and what runs goes on running.
func TestTwoPointersWithOneSeq(t *testing.T) {
	s := newSite(t)
	key := keygen(t)
	ci := s.publisher(web, key)
	ci.released("v1")
	ci.upload("other").want(t, deployment.ExitOK)
	m, err := release.NoTrust().Manifest(s.get(s.object("web/releases/other-", ".json")), web.want())
	s.must(err)
	one := ci.released("v2")
	p := opened(t, web, one)
	p.Release, p.Artifact = m.Release, m.Artifact
	other := sign(t, p, key.signer(t))
	p = opened(t, web, one)
	p.Reason = "the same release, said with other words"
	words := sign(t, p, key.signer(t))

	const alarm = "FORK: seq 2 was accepted with another payload before"
	for name, order := range map[string][2]struct {
		file    []byte
		version string
	}{
		"in their order": {{one, "v2"}, {other, "other"}},
		"turned round":   {{other, "other"}, {one, "v2"}},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := order[0], order[1]
			v := s.server(strings.ReplaceAll(name, " ", "-"), trust(key), oneApp)
			s.put(web.pointer(), s.get(web.history(1)))
			v.once().want(t, deployment.ExitOK, "deployed v1")
			s.put(web.pointer(), first.file)
			v.once().want(t, deployment.ExitOK, "deployed "+first.version)
			for range 2 { // each time by an agent that has just been started
				s.put(web.pointer(), second.file)
				v.refused(web, alarm)
				s.put(web.pointer(), words)
				v.refused(web, alarm)
			}
			d := v.start()
			d.saying("refused: " + alarm)
			d.ask("status", "web").want(t, deployment.ExitOK, alarm)
			d.ask("deploy", "web").want(t, deployment.ExitRefused, alarm)
			d.stop()
			v.wantLive(first.version)
			s.put(web.pointer(), first.file)
			v.once().want(t, deployment.ExitOK, "deployed "+first.version)
			if got := v.says(web); got != "" {
				t.Errorf("receipt: got status %q, want the alarm to be over", got)
			}
		})
	}
	// A seq above both ends it.
	s.put(web.pointer(), one)
	ci.released("v3")
	for _, name := range []string{"in-their-order", "turned-round"} {
		(&server{site: s, name: name, file: s.dir + "/" + name + ".yaml"}).once().want(t, deployment.ExitOK, "deployed v3")
	}
}
