package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzEnvelope offers whole files to every reader. None of them holds a signature that was not made below, so what a
// reader with keys accepts must be one of the signed files, but for white space and further signatures.
func FuzzEnvelope(f *testing.F) {
	key, other := testKey(f, 1), testKey(f, 2)
	trust := testTrust(f, 1, key)
	known := map[string]bool{} // the files with the one signature, compacted
	add := func(file []byte, err error) {
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
		known[compact(f, file)] = true
	}
	first := testPointer()
	first.Seq, first.Prev, first.Reason, first.Run, first.Artifact.Index = 1, "", "", nil, nil
	add(SignPointer(testPointer(), key))
	add(SignPointer(first, key))
	add(SignManifest(testManifest(), key))
	golden, err := filepath.Glob(filepath.Join("testdata", "v1", "*.json"))
	if err != nil || len(golden) == 0 {
		f.Fatalf("golden files: %v, %v", golden, err)
	}
	for _, name := range golden { // signed with the same key, but for the unsigned one, which only NoTrust reads
		add(os.ReadFile(name))
	}
	for _, keys := range [][]PrivateKey{nil, {other}, {key, other}, {other, key, key}} {
		file, err := SignPointer(testPointer(), keys...)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
	f.Add([]byte(`{"hash":"abc","msg":"m","date":"d"}`))
	f.Add([]byte(`{"hash":"abc","envelope":{"payloadType":"` + PointerPayloadType + `","payload":"e30=","signatures":[]}}`))

	f.Fuzz(func(t *testing.T, file []byte) {
		v, err := trust.Pointer(file, testWant)
		checkVerdict(t, v.Valid(), err)
		_, merr := trust.Manifest(file, testWant)
		checkVerdict(t, merr == nil, merr)
		loose, lerr := NoTrust().Pointer(file, testWant)
		checkVerdict(t, loose.Valid(), lerr)
		if _, err := trust.Pointer(file, Want{App: "other", Environment: "production", Prefix: "nodeapi"}); err == nil {
			t.Error("accepted for another app")
		}
		if _, err := testTrust(t, 2, key, testKey(t, 3)).Pointer(file, testWant); err == nil {
			t.Error("accepted with one of two signatures")
		}
		if err == nil {
			var decoded File
			if err := json.Unmarshal(file, &decoded); err != nil {
				t.Fatal(err)
			}
			// What others signed beside is not covered by any signature, and nobody reads it.
			decoded.Envelope.Signatures = ours(t, decoded.Envelope, key)
			again, err := encodeFile(v.Pointer(), decoded.Envelope)
			if err != nil {
				t.Fatal(err)
			}
			if !known[compact(t, again)] {
				t.Errorf("accepted a file that was never signed: %s", file)
			}
			if merr == nil || lerr != nil || loose.Digest() != v.Digest() || v.Plain() {
				t.Errorf("with keys a pointer; as a release object: %v; without keys: %v", merr, lerr)
			}
		}
		if merr == nil {
			var e Envelope
			if err := json.Unmarshal(file, &e); err != nil {
				t.Fatal(err)
			}
			e.Signatures = ours(t, e, key)
			if again, err := indent(e); err != nil || !known[compact(t, again)] {
				t.Errorf("accepted a release object that was never signed: %v: %s", err, file)
			}
		}
		if lerr == nil && !loose.Plain() {
			var decoded File
			if err := json.Unmarshal(file, &decoded); err != nil {
				t.Fatal(err)
			}
			checkPayload(t, decoded.Envelope.Payload, loose.Pointer(), loose.Digest())
			if again, err := encodeFile(loose.Pointer(), decoded.Envelope); err != nil || compact(t, again) != compact(t, file) {
				t.Errorf("accepted a file that is not its own encoding, %v: %s", err, file)
			}
		}
	})
}

// FuzzPayload signs arbitrary bytes with a trusted key: what is accepted all the same must be exactly what this version
// writes, within its limits, and what this version writes must be accepted.
func FuzzPayload(f *testing.F) {
	key := testKey(f, 1)
	trust := testTrust(f, 1, key)
	first := testPointer()
	first.Seq, first.Prev, first.Reason, first.Run, first.Artifact.Index = 1, "", "", nil, nil
	waves := testPointer()
	waves.Rollout = &Rollout{Waves: []string{"canary", "100%"}, Open: 1}
	for _, v := range []any{testPointer(), first, waves, testManifest()} {
		payload, err := encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	for _, v := range []any{testPointer(), testManifest()} {
		payload, err := encode(v)
		if err != nil {
			f.Fatal(err)
		}
		for i, trick := range tricks(f, payload) {
			if i%7 == 0 { // every kind somewhere; the fuzzer makes the rest
				f.Add(trick.text)
			}
		}
	}

	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > MaxPayload { // which seal would not sign
			payload = payload[:MaxPayload]
		}
		var p Pointer
		_ = json.Unmarshal(payload, &p) // for the plain fields; what does not fit is refused for itself
		env, err := seal(PointerPayloadType, payload, []PrivateKey{key})
		if err != nil {
			t.Fatal(err)
		}
		file, err := encodeFile(p, env)
		if err != nil {
			t.Fatal(err)
		}
		want := Want{App: p.App, Environment: p.Environment, Prefix: keyPrefix(p.Artifact.Key)}
		v, err := trust.Pointer(file, want)
		checkVerdict(t, v.Valid(), err)
		if err == nil {
			checkPayload(t, env.Payload, v.Pointer(), v.Digest())
			checkLimits(t, v.Pointer())
		}
		if file, err := SignPointer(p, key); err == nil {
			if _, err := trust.Pointer(file, want); err != nil && !errors.Is(err, ErrTooOld) {
				t.Errorf("signed here and refused here: %v: %s", err, file)
			}
		}

		if env, err = seal(ManifestPayloadType, payload, []PrivateKey{key}); err != nil {
			t.Fatal(err)
		}
		if file, err = indent(env); err != nil {
			t.Fatal(err)
		}
		m, err := trust.Manifest(file, want)
		checkVerdict(t, err == nil, err)
		if err == nil {
			checkPayload(t, env.Payload, m, digest(payload))
		}
	})
}

// checkVerdict demands that a reader either accepts or wraps ErrVerify.
func checkVerdict(t *testing.T, accepted bool, err error) {
	t.Helper()
	if accepted != (err == nil) || err != nil && !errors.Is(err, ErrVerify) {
		t.Errorf("accepted: %v, err = %v, want exactly one of them, and ErrVerify", accepted, err)
	}
}

// checkPayload demands that v encodes to the bytes that were signed and that the digest is theirs.
func checkPayload(t *testing.T, payload string, v any, digest string) {
	t.Helper()
	again, err := encode(v)
	if err != nil {
		t.Fatal(err)
	}
	if want := base64.StdEncoding.EncodeToString(again); payload != want {
		t.Errorf("accepted payload %s, which encodes to %s", payload, want)
	}
	if sum := sha256.Sum256(again); hex.EncodeToString(sum[:]) != digest {
		t.Errorf("digest %s, want %x", digest, sum)
	}
}

// checkLimits demands what an agent relies on after a pointer was accepted.
func checkLimits(t *testing.T, p Pointer) {
	t.Helper()
	if p.Seq == 0 || p.Type != PointerType || CheckApp(p.App) != nil || CheckEnvironment(p.Environment) != nil || CheckVersion(p.Release.Hash) != nil {
		t.Errorf("accepted names or numbers out of range: %+v", p)
	}
	if n := utf8.RuneCountInString(p.Release.Msg); n > MaxMessage || strings.ContainsAny(p.Release.Msg, "\n\r\x00\x1b") {
		t.Errorf("accepted a message of %d characters: %q", n, p.Release.Msg)
	}
	a := p.Artifact
	if a.Size <= 0 || a.UnpackedSize < 0 || a.Entries < 0 || strings.Contains(a.Key, "..") || strings.HasPrefix(a.Key, "/") {
		t.Errorf("accepted an artifact out of range: %+v", a)
	}
	if x := a.Index; x != nil && (x.Offset < 0 || x.Size <= 0 || x.Offset > a.Size-x.Size) {
		t.Errorf("accepted an index outside of its artifact: %+v in %d bytes", x, a.Size)
	}
}

// ours keeps the first signature of e that key made.
func ours(t *testing.T, e Envelope, key PrivateKey) []Signature {
	t.Helper()
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range e.Signatures {
		if key.Public().signed(signed(e.PayloadType, payload), s) {
			return []Signature{s}
		}
	}
	return nil
}

func keyPrefix(key string) string {
	prefix, _, _ := strings.Cut(key, "/releases/")
	return prefix
}

func compact(t testing.TB, file []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, file); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
