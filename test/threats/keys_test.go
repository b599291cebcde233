package threats

import (
	"fmt"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// The rotation drill of docs/trust.md, and what a thief of the old key can do at each of its steps.
func TestStolenCIKey(t *testing.T) {
	t.Run("rotation", rotate)
	t.Run("two keys needed", needTwo)
}

func rotate(t *testing.T) {
	s := newSite(t)
	k1, k2 := keygen(t), keygen(t)
	v := s.server("web-1", trust(k1)+"listen: 127.0.0.1:0\n", oneApp)
	d := v.start()
	ci := s.publisher(web, k1)
	ci.released("v1", "--servers", d.address())
	d.settled("v1")
	restarts := func() int { return strings.Count(v.footprint(), "x\\n") }
	began := restarts()

	// 1. The server trusts both. Nothing is restarted for it but the agent.
	d.stop()
	v.configure(trust(k1, k2)+"listen: 127.0.0.1:0\n", oneApp)
	d = v.start()
	d.settled("v1")
	if got := restarts(); got != began {
		t.Errorf("restarts of the app: got %d, want %d", got, began)
	}
	// 2. CI signs with the new key. It has to be told whose pointers to build upon, once.
	ci = s.publisher(web, k2)
	ci.publish("v2", "--servers", d.address()).want(t, deployment.ExitRefused, web.pointer(), "signed by 0 of the trusted keys")
	ci.publish("v2", "--servers", d.address(), "--trusted-keys", k1.Public).want(t, deployment.ExitOK, "1 of 1 servers live and healthy")
	d.settled("v2")
	ci.released("v3", "--servers", d.address())
	// 3. The server forgets the old key.
	d.stop()
	v.configure(trust(k2)+"listen: 127.0.0.1:0\n", oneApp)
	d = v.start()
	d.settled("v3")

	// Whoever has the old key is nobody now: not as a publisher, not in the bucket, not at the port.
	thief := s.publisher(web, k1)
	before := fmt.Sprint(s.objects())
	thief.publish("evil").want(t, deployment.ExitRefused, web.pointer())
	thief.run("rollback").want(t, deployment.ExitRefused, web.pointer())
	if after := fmt.Sprint(s.objects()); after != before {
		t.Error("the old key wrote into the bucket by way of the publisher")
	}
	good := s.get(web.pointer())
	evil := opened(t, web, good)
	evil.Seq, evil.Prev, evil.Reason = evil.Seq+1, strings.Repeat("0", 64), "stolen"
	forged := sign(t, evil, k1.signer(t))
	if status := d.knock(forged); status != 401 {
		t.Errorf("ping by the old key: got status %d, want 401", status)
	}
	s.put(web.pointer(), forged)
	d.ask("deploy", "web").want(t, deployment.ExitRefused, "signed by 0 of the trusted keys")
	d.saying("refused: web/production/version.json: pointer: verification failed: signed by 0 of the trusted keys")
	d.wantLive("v3")
	// CI does not build on what the thief left, and says what it is; a person puts the good one back.
	ci.publish("v4", "--servers", d.address()).want(t, deployment.ExitRefused, web.pointer())
	s.put(web.pointer(), good)
	ci.released("v4", "--servers", d.address())
	d.settled("v4")
	// A pointer of the past by the old key is not gone back to either.
	s.put(web.pointer(), s.get(web.history(1)))
	d.ask("deploy", "web").want(t, deployment.ExitRefused, "signed by 0 of the trusted keys")
	d.wantLive("v4")
	if got, want := restarts(), began+3; got != want {
		t.Errorf("restarts of the app: got %d, want %d, one for each release", got, want)
	}
}

// With a threshold of two, one stolen key moves nothing.
func needTwo(t *testing.T) {
	s := newSite(t)
	k1, k2, k3 := keygen(t), keygen(t), keygen(t)
	v := s.server("web-1", fmt.Sprintf("trust: {keys: [%s], threshold: 2}\n", list(k1, k2)), oneApp)
	good := s.publisher(web, k1, k2).released("v1")
	v.once().want(t, deployment.ExitOK, "deployed v1")
	for name, signers := range map[string][]release.PrivateKey{
		"the first":                   {k1.signer(t)},
		"the second":                  {k2.signer(t)},
		"the first and a foreign one": {k1.signer(t), k3.signer(t)},
		"the first, twice":            {k1.signer(t), k1.signer(t)},
	} {
		p := opened(t, web, good)
		p.Seq, p.Prev, p.Reason = 2, strings.Repeat("0", 64), "one thief"
		s.put(web.pointer(), sign(t, p, signers...))
		v.untouched(deployment.ExitRefused, "signed by 1 of the trusted keys, want 2", v.once)
		if t.Failed() {
			t.Fatalf("by %s", name)
		}
	}
	s.put(web.pointer(), good)
	s.publisher(web, k1).released("v2") // the publisher may be one; the servers want both
	v.refused(web, "signed by 1 of the trusted keys, want 2")
	s.publisher(web, k2, k1).released("v3")
	v.once().want(t, deployment.ExitOK, "deployed v3")
}

// A thief who drives the seq to where no honest publisher gets is followed until the key is changed; then a person lowers
// the mark by hand.
func TestFastForward(t *testing.T) {
	const far = uint64(1) << 63
	s := newSite(t)
	k1, k2 := keygen(t), keygen(t)
	ci := s.publisher(web, k1)
	ci.released("v1")
	good := ci.released("v2")
	v := s.server("web-1", trust(k1), oneApp)
	v.once().want(t, deployment.ExitOK, "deployed v2")

	ci.upload("evil").want(t, deployment.ExitOK)
	manifest := s.object("web/releases/evil-", ".json")
	m, err := release.NoTrust().Manifest(s.get(manifest), web.want())
	s.must(err)
	p := opened(t, web, good)
	p.Seq, p.Release, p.Artifact = far, m.Release, m.Artifact
	stolen := sign(t, p, k1.signer(t))
	s.put(web.pointer(), stolen)
	s.put(web.history(far), stolen)
	v.once().want(t, deployment.ExitOK, "deployed evil")
	v.wantLive("evil")

	// The key is changed, what the thief wrote is removed, and a release is published with the new key.
	v.configure(trust(k2), oneApp)
	v.untouched(deployment.ExitRefused, "signed by 0 of the trusted keys", v.once)
	ci = s.publisher(web, k2)
	ci.publish("v3", "--trusted-keys", k1.Public).want(t, deployment.ExitOK) // still on top of the thief's
	if got := opened(t, web, s.get(web.pointer())).Seq; got != far+1 {
		t.Fatalf("got seq %d: what the thief wrote counts while his key is trusted", got)
	}
	s.remove(web.pointer())
	s.remove(web.history(far))
	s.remove(web.history(far + 1))
	ci.publish("v3", "--trusted-keys", k1.Public).want(t, deployment.ExitOK)
	if got := opened(t, web, s.get(web.pointer())).Seq; got != 3 {
		t.Fatalf("got seq %d, want 3", got)
	}
	// The server cannot know whom to believe: the mark stands until a person says otherwise.
	v.untouched(deployment.ExitRefused, fmt.Sprintf("seq 3 is not above %d", far), v.once)
	d := v.start()
	d.saying(fmt.Sprintf("refused: seq 3 is not above %d", far))
	d.ask("recover", "web").want(t, deployment.ExitOK, "nothing to recover")
	d.wantLive("evil")
	d.ask("recover", "web", "--accept-seq", "2").want(t, deployment.ExitOK, "pointers above seq 2 are followed")
	d.settled("v3")
	// What the thief made live is not what a person goes back to.
	d.ask("rollback", "web").want(t, deployment.ExitOK)
	d.settled("v2")
	d.ask("resume", "web").want(t, deployment.ExitOK)
	d.settled("v3")
	// His pointer is not even one that may be restored.
	d.stop()
	s.put(web.pointer(), stolen)
	v.refused(web, "signed by 0 of the trusted keys")
}

// Whoever may publish one environment may not publish another that has a key of its own.
func TestAnotherEnvironmentsKey(t *testing.T) {
	s := newSite(t)
	production, staging := keygen(t), keygen(t)
	test := track{"web", "staging", "web"}
	live := s.publisher(web, production)
	good := live.released("v1")
	intern := s.publisher(test, staging)
	intern.released("v1")
	// One server has both, and says so for each; the key that is for all is none for an app that names its own.
	v := s.server("web-1", trust(production), oneApp+
		"  web-staging:\n    app: web\n    environment: staging\n    dir: $srv/web-staging\n    "+trust(staging))
	v.once().want(t, deployment.ExitOK, "web: deployed v1", "web-staging: deployed v1")

	// By the publisher it does not come to anything; nothing is written.
	before := fmt.Sprint(s.objects())
	for _, attack := range []ran{
		s.publisher(web, staging).publish("evil"),
		s.publisher(web, staging).run("promote", "v1"),
		s.publisher(web, staging).run("rollback"),
		live.with(test).publish("evil"), // nor the other way round
	} {
		attack.want(t, deployment.ExitRefused, "version.json: pointer: verification failed: signed by 0 of the trusted keys")
	}
	if after := fmt.Sprint(s.objects()); after != before {
		t.Error("something was written with another environment's key")
	}
	// With his own hands he can write it, and that is all.
	p := opened(t, web, good)
	p.Seq, p.Prev = 2, strings.Repeat("0", 64)
	s.put(web.pointer(), sign(t, p, staging.signer(t)))
	v.refused(web, "signed by 0 of the trusted keys")
	p = opened(t, test, s.get(test.pointer()))
	p.Seq, p.Prev = 2, strings.Repeat("0", 64)
	s.put(web.pointer(), good)
	s.put(test.pointer(), sign(t, p, production.signer(t)))
	v.refused(test, "signed by 0 of the trusted keys")
	// A release made with the one key may be promoted with it alone.
	live.run("promote", "v1").want(t, deployment.ExitOK)
}
