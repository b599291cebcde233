package threats

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// parsed is a version.json taken apart, as an attacker would.
type parsed struct {
	Hash     string           `json:"hash"`
	Msg      string           `json:"msg"`
	Date     string           `json:"date"`
	Seq      uint64           `json:"seq"`
	Envelope release.Envelope `json:"envelope"`
}

func (p parsed) file(t *testing.T) []byte {
	t.Helper()
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

func takeApart(t *testing.T, file []byte) parsed {
	t.Helper()
	var p parsed
	if err := json.Unmarshal(file, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// Whoever may write the bucket but has no key cannot make a server do anything, whatever he writes as the pointer; and
// everybody sees that he tried.
func TestForgedPointer(t *testing.T) {
	s := newSite(t)
	key, other := keygen(t), keygen(t)
	ci := s.publisher(web, key)
	old := ci.released("v1")
	v := s.server("web-1", trust(key), oneApp)
	v.once().want(t, deployment.ExitOK, "deployed v1")
	good := ci.released("v2")
	v.once().want(t, deployment.ExitOK, "deployed v2")
	v.wantLive("v2")
	// What he wants to run lies in the bucket, as it should be.
	ci.upload("evil").want(t, deployment.ExitOK)

	next := func(kind release.Kind) release.Pointer {
		p := opened(t, web, good)
		p.Seq, p.Kind, p.Prev, p.Reason = p.Seq+1, kind, strings.Repeat("0", 64), "forged"
		p.Release.Hash = "evil"
		p.Artifact.Key = release.ArtifactKey(web.prefix, "evil", p.Artifact.SHA256, p.Artifact.Format)
		return p
	}
	type forgery struct {
		name string
		file []byte
		say  string
	}
	var forgeries []forgery
	for _, kind := range []release.Kind{release.KindDeploy, release.KindPromote, release.KindRollback} {
		p := next(kind)
		unsigned, foreign := takeApart(t, sign(t, p)), takeApart(t, sign(t, p, other.signer(t)))
		forgeries = append(forgeries,
			forgery{fmt.Sprintf("%s, unsigned", kind), unsigned.file(t), "it has no signature"},
			forgery{fmt.Sprintf("%s, another key", kind), foreign.file(t), "signed by 0 of the trusted keys"})
		foreign.Envelope.Signatures[0].KeyID = takeApart(t, good).Envelope.Signatures[0].KeyID
		forgeries = append(forgeries, forgery{fmt.Sprintf("%s, another key by the right one's name", kind), foreign.file(t), "signed by 0 of the trusted keys"})
		unsigned.Envelope.Signatures = takeApart(t, good).Envelope.Signatures
		forgeries = append(forgeries, forgery{fmt.Sprintf("%s, the signature of the last one", kind), unsigned.file(t), "signed by 0 of the trusted keys"})
		unsigned.Envelope.Signatures = append(takeApart(t, old).Envelope.Signatures, unsigned.Envelope.Signatures...)
		forgeries = append(forgeries, forgery{fmt.Sprintf("%s, the signatures of two others", kind), unsigned.file(t), "signed by 0 of the trusted keys"})
	}
	edited, mixed, typed := takeApart(t, good), takeApart(t, good), takeApart(t, good)
	edited.Hash = "evil"
	mixed.Envelope.Signatures = takeApart(t, old).Envelope.Signatures
	typed.Envelope.PayloadType = release.ManifestPayloadType
	many := takeApart(t, good)
	for len(many.Envelope.Signatures) <= release.MaxSignatures {
		many.Envelope.Signatures = append(many.Envelope.Signatures, many.Envelope.Signatures[0])
	}
	forgeries = append(forgeries,
		forgery{"what people read was edited", edited.file(t), "edited by hand"},
		forgery{"the payload of one and the signature of another", mixed.file(t), "signed by 0 of the trusted keys"},
		forgery{"the type of a release", typed.file(t), "payload type"},
		forgery{"too many signatures", many.file(t), "9 signatures, at most 8"},
		forgery{"a signed release object", s.get(s.object("web/releases/evil-", ".json")), "not signed"},
		forgery{"the pointer of a shell script", []byte(`{"hash":"evil","msg":"x","date":"2026-11-23T13:06:43Z"}`), "not signed"},
		forgery{"an envelope of nothing", []byte(`{"envelope":null}`), "not signed"},
		forgery{"nothing", nil, "not JSON"},
		forgery{"HTML", []byte("<html>not found</html>"), "not JSON"},
		forgery{"two in one file", append(append([]byte{}, good...), good...), "not JSON"},
		forgery{"more than is ever read", append(good[:len(good)-1:len(good)-1], strings.Repeat(" ", release.MaxEnvelope)...), "over the cap"},
	)
	d := s.server("web-2", trust(key)+"listen: 127.0.0.1:0\n", oneApp).start()
	d.settled("v2")
	for _, f := range forgeries {
		t.Run(f.name, func(t *testing.T) {
			s := *s
			s.t = t
			v := &server{site: &s, name: v.name, file: v.file}
			s.put(web.pointer(), f.file)
			v.refused(web, f.say)
			// Nobody builds on it either.
			before := fmt.Sprint(s.objects())
			(&publisher{site: &s, track: web, env: ci.env}).publish("v3").want(t, deployment.ExitRefused, web.pointer())
			if after := fmt.Sprint(s.objects()); after != before {
				t.Error("a publisher wrote upon a forged pointer")
			}
			// It is no better as a ping.
			before = d.footprint()
			if status := d.ring(f.file); status < 400 || status > 499 {
				t.Errorf("ping: got status %d, want a refusal", status)
			}
			if after := d.footprint(); after != before {
				t.Error("a forged ping touched the server")
			}
		})
	}
	for _, f := range forgeries[:3] {
		if status := d.knock(f.file); status != http.StatusUnauthorized {
			t.Errorf("%s at the port: got status %d, want 401", f.name, status)
		}
	}
	s.put(web.pointer(), good)
	v.once().want(t, deployment.ExitOK, "deployed v2")
	if got := v.says(web); got != "" {
		t.Errorf("receipt, once the pointer is back: got %q, want nothing to be said", got)
	}
}
