package ping

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// signedBy says, without a line of the code under test, whether body is an envelope that key has signed.
func signedBy(key ed25519.PublicKey, body []byte) bool {
	var file struct {
		Envelope struct {
			PayloadType string `json:"payloadType"`
			Payload     []byte `json:"payload"`
			Signatures  []struct {
				Sig string `json:"sig"`
			} `json:"signatures"`
		} `json:"envelope"`
	}
	if json.Unmarshal(body, &file) != nil {
		return false
	}
	e := file.Envelope
	message := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.PayloadType), e.PayloadType, len(e.Payload), e.Payload)
	for _, s := range e.Signatures {
		// What a stranger signed beside may be anything.
		if sig, err := base64.StdEncoding.DecodeString(s.Sig); err == nil && ed25519.Verify(key, message, sig) {
			return true
		}
	}
	return false
}

// FuzzPing rings with whatever comes to mind. Nothing but a body that the key has signed is taken, and nothing is said
// to anybody else.
func FuzzPing(f *testing.F) {
	private, err := release.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{7}, 64)))
	if err != nil {
		f.Fatal(err)
	}
	stranger, err := release.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{8}, 64)))
	if err != nil {
		f.Fatal(err)
	}
	text := strings.TrimPrefix(private.Public().String(), "ed25519:")
	public, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		f.Fatal(err)
	}
	trust, err := release.NewTrust([]release.PublicKey{private.Public()}, 1)
	if err != nil {
		f.Fatal(err)
	}
	sum := strings.Repeat("ab", 32)
	pointer := release.Pointer{
		Type: release.PointerType, MinAgent: release.MinAgent, App: "nodeapi", Environment: "production", Seq: 1,
		Release: release.Release{Hash: "v1", Msg: "First", Date: "2026-11-23T13:06:43Z"},
		Artifact: release.Artifact{
			Key: release.ArtifactKey("nodeapi", "v1", sum, release.FormatZstd), SHA256: sum, Size: 100, UnpackedSize: 200, Entries: 2,
			Format: release.FormatZstd,
		},
		Kind: release.KindDeploy, Created: "2026-11-23T13:06:43Z", Expires: "2027-11-23T13:06:43Z",
	}
	good, err := release.SignPointer(pointer, private)
	if err != nil {
		f.Fatal(err)
	}
	want := release.Want{App: "nodeapi", Environment: "production", Prefix: "nodeapi"}
	if _, err := trust.Pointer(good, want); err != nil {
		f.Fatal(err)
	}
	elsewhere := pointer
	elsewhere.Environment = "staging"
	for _, seed := range []struct {
		pointer release.Pointer
		keys    []release.PrivateKey
	}{{pointer, nil}, {pointer, []release.PrivateKey{stranger}}, {pointer, []release.PrivateKey{stranger, private}}, {elsewhere, []release.PrivateKey{private}}} {
		body, err := release.SignPointer(seed.pointer, seed.keys...)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("POST", contentType, "", body)
	}
	f.Add("POST", contentType, "", good)
	f.Add("POST", "", "Bearer secret", good)
	f.Add("POST", "text/html, application/x-ndjson;q=0.1", "bearer  secret", bytes.TrimRight(good, "\n"))
	f.Add("POST", contentType, "", good[:len(good)/2])
	f.Add("POST", contentType, "", append(bytes.Clone(good), good...))
	f.Add("POST", contentType, "", bytes.Replace(good, []byte("v1"), []byte("v2"), 1))
	f.Add("POST", contentType, "", []byte(`{"hash":"v1","msg":"","date":""}`))
	f.Add("POST", contentType, "", []byte(`{"envelope":{"payloadType":"x","payload":"e30=","signatures":[]}}`))
	f.Add("POST", contentType, "", append(bytes.Repeat([]byte(" "), maxBody), good...))
	f.Add("PUT", contentType, "", good)
	f.Add("GET", "", "", []byte{})

	const said = "the agent's own words"
	f.Fuzz(func(t *testing.T, method, accept, authorization string, body []byte) {
		r := httptest.NewRequest("POST", "/v1/ping", bytes.NewReader(body))
		r.Method = method
		r.Header["Accept"], r.Header["Authorization"] = []string{accept}, []string{authorization}
		h := NewHandler(HandlerOptions{Trusted: true, Ring: func(ctx context.Context, got []byte, token string) (Answer, error) {
			if len(got) > maxBody || !bytes.Equal(got, body) || len(token) > len(authorization) {
				t.Errorf("got %d bytes and a token of %d handed over, of %d and %d", len(got), len(token), len(body), len(authorization))
			}
			v, err := trust.Pointer(got, want)
			switch {
			case err == nil:
				events := tale("a", v.Pointer().Seq, 2)
				events[1].Reason = said
				answer, err := answering(0, events...)(ctx, got, token)
				return answer, err
			case errors.Is(err, release.ErrVerify):
				return Answer{}, fmt.Errorf("%w: %w: %s", ErrRefused, err, said)
			default:
				t.Errorf("got %v, want that every refusal is one", err)
				return Answer{}, err
			}
		}})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch {
		case w.Code == 202 && method != "POST":
			t.Errorf("%s: got 202", method)
		case w.Code == 202 && !signedBy(public, body):
			t.Errorf("got 202 for a body that nobody has signed:\n%s", body)
		case w.Code == 202:
			streams := strings.Contains(accept, contentType)
			if got := strings.Contains(w.Body.String(), said); got != streams || w.Body.Len() > 4096 {
				t.Errorf("got %d bytes with Accept %q", w.Body.Len(), accept)
			}
			if streams {
				var last deployment.Event
				lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
				if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || !last.Terminal() {
					t.Errorf("got %q last, %v", lines[len(lines)-1], err)
				}
			}
		case w.Code != 401 && w.Code != 405 && w.Code != 413:
			t.Errorf("got %d", w.Code)
		case (w.Code == 405) != (method != "POST") || (w.Code == 413) != (method == "POST" && len(body) > maxBody):
			t.Errorf("%s of %d bytes: got %d", method, len(body), w.Code)
		case w.Body.Len() > 0:
			t.Errorf("got %d with %q, want no word", w.Code, w.Body)
		default:
			for name := range w.Header() {
				if name != "Allow" && name != "Connection" {
					t.Errorf("got %d with header %s, want none", w.Code, name)
				}
			}
		}
	})
}
