package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files; only before the format is released")

func testKey(t testing.TB, b byte) PrivateKey {
	t.Helper()
	k, err := GenerateKey(bytes.NewReader(bytes.Repeat([]byte{b}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testPointer() Pointer {
	sum := strings.Repeat("ab", 32)
	hash := "e02371ab6db3a60c3f9ead35e36187c91155b5a1"
	return Pointer{
		Type: PointerType, MinAgent: "0.1.0", App: "nodeapi", Environment: "production", Seq: 184, Prev: strings.Repeat("0c", 32),
		Release: Release{Hash: hash, Msg: "Run a test deploy <&> ü", Date: "2026-11-23T14:06:43+01:00"},
		Artifact: Artifact{
			Key: ArtifactKey("nodeapi", hash, sum, FormatZstd), SHA256: sum, Size: 36_300_000, UnpackedSize: 209_600_000,
			Entries: 41770, Format: FormatZstd, Index: &Index{Offset: 36_290_000, Size: 9_000, SHA256: strings.Repeat("cd", 32)},
		},
		Kind: KindDeploy, Reason: "because",
		Run:     &Run{URL: "https://github.com/o/r/actions/runs/1", Actor: "ann", Repository: "o/r", Ref: "refs/heads/main"},
		Created: "2026-11-23T13:06:50Z", Expires: "2027-02-21T13:06:50Z",
	}
}

func testManifest() Manifest {
	p := testPointer()
	return Manifest{Type: ManifestType, App: p.App, Release: p.Release, Artifact: p.Artifact, Run: p.Run, Created: p.Created}
}

var testWant = Want{App: "nodeapi", Environment: "production", Prefix: "nodeapi"}

func testTrust(t testing.TB, threshold int, keys ...PrivateKey) Trust {
	t.Helper()
	var public []PublicKey
	for _, k := range keys {
		public = append(public, k.Public())
	}
	trust, err := NewTrust(public, threshold)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// The bytes of the format are frozen: a change here is a new format, not a fix.
func TestGoldenBytes(t *testing.T) {
	first := testPointer()
	first.Seq, first.Prev, first.Reason, first.Run, first.Artifact.Index = 1, "", "", nil, nil
	first.Artifact.Format = FormatGzip
	first.Artifact.Key = ArtifactKey("nodeapi", first.Release.Hash, first.Artifact.SHA256, FormatGzip)
	key := testKey(t, 1)
	trust := testTrust(t, 1, key)
	for name, sign := range map[string]func() ([]byte, error){
		"pointer.json":  func() ([]byte, error) { return SignPointer(testPointer(), key) },
		"first.json":    func() ([]byte, error) { return SignPointer(first, key) },
		"unsigned.json": func() ([]byte, error) { return SignPointer(first) },
		"manifest.json": func() ([]byte, error) { return SignManifest(testManifest(), key) },
	} {
		t.Run(name, func(t *testing.T) {
			got, err := sign()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", "v1", name)
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			switch name {
			case "manifest.json":
				_, err = trust.Manifest(want, testWant)
			case "unsigned.json":
				_, err = NoTrust().Pointer(want, testWant)
			default:
				_, err = trust.Pointer(want, testWant)
			}
			if err != nil {
				t.Errorf("the golden file does not verify: %v", err)
			}
		})
	}
}

func TestEverySingleBitFlipIsRefused(t *testing.T) {
	key := testKey(t, 1)
	file, err := SignPointer(testPointer(), key)
	if err != nil {
		t.Fatal(err)
	}
	trust := testTrust(t, 1, key)
	for i := range file {
		for bit := range 8 {
			flipped := bytes.Clone(file)
			flipped[i] ^= 1 << bit
			if _, err := trust.Pointer(flipped, testWant); !errors.Is(err, ErrVerify) {
				t.Fatalf("bit %d of byte %d (%q) flipped: got %v, want ErrVerify", bit, i, file[i], err)
			}
		}
	}
}

func TestPointerRefusals(t *testing.T) {
	key, other := testKey(t, 1), testKey(t, 2)
	trust := testTrust(t, 1, key)
	// forge signs any bytes as a payload and wraps them as SignPointer would.
	forge := func(payloadType, payload string) []byte {
		env, err := seal(payloadType, []byte(payload), []PrivateKey{key})
		if err != nil {
			t.Fatal(err)
		}
		file, err := encodeFile(testPointer(), env)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	good, err := encode(testPointer())
	if err != nil {
		t.Fatal(err)
	}
	sign := func(change func(*Pointer), keys ...PrivateKey) []byte {
		p := testPointer()
		if change != nil {
			change(&p)
		}
		file, err := SignPointer(p, keys...)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	cases := map[string]struct {
		file []byte
		want string
	}{
		"empty":                     {nil, "not JSON"},
		"html":                      {[]byte("<html>"), "not JSON"},
		"plain":                     {[]byte(`{"hash":"abc"}`), "not signed"},
		"too large":                 {bytes.Repeat([]byte(" "), MaxEnvelope+1), "over the cap"},
		"no signature":              {sign(nil), "no signature"},
		"another key":               {sign(nil, other), "signed by 0"},
		"nine signatures":           {nineSignatures(t, sign(nil, key)), "9 signatures"},
		"another app":               {sign(func(p *Pointer) { p.App = "other" }, key), `for app "other"`},
		"another environment":       {sign(func(p *Pointer) { p.Environment = "staging" }, key), `for environment "staging"`},
		"another prefix":            {sign(func(p *Pointer) { p.Artifact.Key = "x" + p.Artifact.Key }, key), "names artifact"},
		"sizes that overflow":       {forge(PointerPayloadType, strings.Replace(string(good), `"unpacked_size":209600000`, `"unpacked_size":9223372036854775807`, 1)), "more than any server"},
		"entries that overflow":     {forge(PointerPayloadType, strings.Replace(string(good), `"entries":41770`, `"entries":1125899906842624`, 1)), "more than any server"},
		"newer agent wanted":        {sign(func(p *Pointer) { p.MinAgent = "9.0.0" }, key), "too old"},
		"manifest as pointer":       {forge(ManifestPayloadType, string(good)), "payload type"},
		"newer type":                {forge(PointerPayloadType, `{"type":"pointer.v2"}`), `type "pointer.v2"`},
		"newer agent, newer type":   {forge(PointerPayloadType, `{"type":"pointer.v2","min_agent":"9.0.0"}`), "too old"},
		"trailing data":             {forge(PointerPayloadType, string(good)+" "), "encoding"},
		"unknown field":             {forge(PointerPayloadType, strings.Replace(string(good), `{`, `{"x":1,`, 1)), "encoding"},
		"duplicate field":           {forge(PointerPayloadType, strings.Replace(string(good), `"seq":184`, `"seq":185,"seq":184`, 1)), "encoding"},
		"field in another case":     {forge(PointerPayloadType, strings.Replace(string(good), `"seq"`, `"Seq"`, 1)), "encoding"},
		"number as float":           {forge(PointerPayloadType, strings.Replace(string(good), `184`, `184.0`, 1)), "payload"},
		"null field":                {forge(PointerPayloadType, strings.Replace(string(good), `"kind"`, `"rollout":null,"kind"`, 1)), "encoding"},
		"plain field edited":        {bytes.Replace(sign(nil, key), []byte(`"seq": 184`), []byte(`"seq": 185`), 1), "plain fields"},
		"field beside the envelope": {bytes.Replace(sign(nil, key), []byte(`"seq": 184`), []byte(`"seq": 184, "x": 1`), 1), "plain fields"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			v, err := trust.Pointer(c.file, testWant)
			if !errors.Is(err, ErrVerify) {
				t.Fatalf("got %v, want ErrVerify", err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want it to say %q", err, c.want)
			}
			if v.Valid() {
				t.Error("a refused pointer came back as valid")
			}
		})
	}
}

func nineSignatures(t *testing.T, file []byte) []byte {
	var f File
	if err := json.Unmarshal(file, &f); err != nil {
		t.Fatal(err)
	}
	for len(f.Envelope.Signatures) < 9 {
		f.Envelope.Signatures = append(f.Envelope.Signatures, f.Envelope.Signatures[0])
	}
	out, err := indent(f)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPlainPointer(t *testing.T) {
	file := []byte(`{"hash":"e02371ab6db3a60c3f9ead35e36187c91155b5a1","msg":"Run a test deploy\n\nbody","date":1732367203}`)
	v, err := NoTrust().Pointer(file, testWant)
	if err != nil {
		t.Fatal(err)
	}
	if !v.Plain() || v.Digest() != digest(file) {
		t.Errorf("got plain %v, digest %s; want the digest of the file's bytes", v.Plain(), v.Digest())
	}
	got, want := v.Pointer().Release, Release{Hash: "e02371ab6db3a60c3f9ead35e36187c91155b5a1", Msg: "Run a test deploy", Date: "1732367203"}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, bad := range []string{`{}`, `{"hash":""}`, `{"hash":"../x"}`, `{"hash":"previous"}`, `[]`, `{"hash":7}`} {
		if _, err := NoTrust().Pointer([]byte(bad), testWant); !errors.Is(err, ErrVerify) {
			t.Errorf("%s: got %v, want ErrVerify", bad, err)
		}
	}
}

func TestManifestRefusals(t *testing.T) {
	key := testKey(t, 1)
	trust := testTrust(t, 1, key)
	file, err := SignManifest(testManifest(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trust.Manifest(file, testWant); err != nil {
		t.Fatal(err)
	}
	pointer, err := SignPointer(testPointer(), key)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file []byte
		want Want
	}{
		"another app":    {file, Want{App: "other", Environment: "production", Prefix: "nodeapi"}},
		"another prefix": {file, Want{App: "nodeapi", Environment: "production", Prefix: "x"}},
		"a pointer":      {pointer, testWant},
		"extra field":    {bytes.Replace(file, []byte("{"), []byte(`{"x":1,`), 1), testWant},
	} {
		if _, err := trust.Manifest(c.file, c.want); !errors.Is(err, ErrVerify) {
			t.Errorf("%s: got %v, want ErrVerify", name, err)
		}
	}
}

func TestKeysRoundTripAndStaySecret(t *testing.T) {
	k := testKey(t, 7)
	again, err := ParsePrivateKey(k.Reveal())
	if err != nil || again != k {
		t.Errorf("private key does not round-trip: %v", err)
	}
	public, err := ParsePublicKey(k.Public().String())
	if err != nil || public != k.Public() {
		t.Errorf("public key does not round-trip: %v", err)
	}
	if got := len(k.Public().ID()); got != 16 {
		t.Errorf("key ID has %d digits, want 16", got)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, k); got != "***" {
			t.Errorf("%s prints %q, want ***", verb, got)
		}
	}
	secret := k.Reveal()
	for _, bad := range []string{"", "x", secret[:len(secret)-4], secret + "AAAA", k.Public().String()} {
		if _, err := ParsePrivateKey(bad); err == nil {
			t.Errorf("private %q: got nil, want an error", bad)
		} else if len(bad) > 40 && strings.Contains(err.Error(), bad[24:]) && strings.HasPrefix(bad, privatePrefix) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
	for _, bad := range []string{"", "ed25519:", "ed25519:AAAA", "rsa:AAAA", secret} {
		if _, err := ParsePublicKey(bad); err == nil {
			t.Errorf("public %q: got nil, want an error", bad)
		} else if strings.Contains(err.Error(), strings.TrimPrefix(secret, privatePrefix)) {
			t.Errorf("the error shows the private key: %v", err)
		}
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, c := range []struct {
		check func(string) error
		what  string
		good  []string
		bad   []string
	}{
		{CheckApp, "app", []string{"a", "node-api", "0x", "a.b_c", long[:63]}, []string{"", "A", "-a", "a..b", "a/b", "a b", long, "ä", "a\n"}},
		{CheckEnvironment, "environment", []string{"production"}, []string{"releases", "", "Staging"}},
		{CheckServer, "server", []string{"web-1", "web-1.example.com"}, []string{"web 1", "..", ""}},
		{CheckVersion, "version", []string{"e02371a", "v1.2.3", "A", long}, []string{"previous", "", "-x", long + "a", "a/b", "a\n"}},
		{CheckUnit, "unit", []string{"web.service", "web@1.service", "a:b_c.service"}, []string{"web", ".service", "a b.service", "web.socket", "../x.service"}},
		{CheckPrefix, "prefix", []string{"nodeapi", "teams/a/nodeapi"}, []string{"", "/a", "a/", "a//b", "a/../b", "a/.b"}},
	} {
		for _, s := range c.good {
			if err := c.check(s); err != nil {
				t.Errorf("%s %q: got %v, want nil", c.what, s, err)
			}
		}
		for _, s := range c.bad {
			if c.check(s) == nil {
				t.Errorf("%s %q: got nil, want an error", c.what, s)
			}
		}
	}
}

func TestObjectKeys(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	for _, c := range []struct{ got, want string }{
		{ArtifactKey("p", "v1", sum, FormatZstd), "p/releases/v1-abababababab.tar.zst"},
		{ArtifactKey("p", "v1", sum, FormatGzip), "p/releases/v1-abababababab.tar.gz"},
		{ManifestKey("p", "v1", sum), "p/releases/v1-abababababab.json"},
		{PointerKey("p", "staging"), "p/staging/version.json"},
		{HistoryKey("p", "staging", 184), "p/staging/history/0000000184.json"},
		{ReceiptKey("p", "staging", "web-1"), "p/staging/receipts/web-1.json"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
	if v, s, ok := ParseManifestKey("p", "p/releases/v1-rc-abababababab.json"); v != "v1-rc" || s != "abababababab" || !ok {
		t.Errorf("got %q %q %v", v, s, ok)
	}
	for _, bad := range []string{"p/releases/v1-abababababab.tar.zst", "q/releases/v1-abababababab.json", "p/releases/v1.json"} {
		if _, _, ok := ParseManifestKey("p", bad); ok {
			t.Errorf("%s: got ok, want not", bad)
		}
	}
	if seq, ok := ParseHistoryKey("p", "e", "p/e/history/0000000184.json"); seq != 184 || !ok {
		t.Errorf("got %d %v", seq, ok)
	}
	for _, bad := range []string{"p/e/history/184.json", "p/e/history/x.json", "p/e/history/0000000184.json.bak", "p/e/version.json"} {
		if _, ok := ParseHistoryKey("p", "e", bad); ok {
			t.Errorf("%s: got ok, want not", bad)
		}
	}
}

func TestExpired(t *testing.T) {
	key := testKey(t, 1)
	file, err := SignPointer(testPointer(), key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := testTrust(t, 1, key).Pointer(file, testWant)
	if err != nil {
		t.Fatal(err)
	}
	if at := time.Date(2027, 2, 21, 13, 6, 50, 0, time.UTC); v.Expired(at) {
		t.Error("expired at the very second of expires, want not yet")
	}
	if at := time.Date(2027, 2, 21, 13, 6, 51, 0, time.UTC); !v.Expired(at) {
		t.Error("not expired a second after expires")
	}
}

func TestFirstLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"one\ntwo":               "one",
		"\n\n one \r\ntwo":       "one",
		"bad \x1b[31mred\x00":    "bad  [31mred",
		strings.Repeat("ü", 300): strings.Repeat("ü", 200),
		"invalid \xff":           "invalid \ufffd",
	} {
		if got := FirstLine(in); got != want {
			t.Errorf("FirstLine(%q): got %q, want %q", in, got, want)
		}
	}
}

func TestSignedPointersVerify(t *testing.T) {
	key := testKey(t, 1)
	trust := testTrust(t, 1, key)
	rapid.Check(t, func(r *rapid.T) {
		p := testPointer()
		p.Seq = rapid.Uint64Range(2, 1<<62).Draw(r, "seq")
		p.Release.Msg = FirstLine(rapid.String().Draw(r, "msg"))
		p.Reason = CleanText(rapid.String().Draw(r, "reason"), maxReason)
		file, err := SignPointer(p, key)
		if err != nil {
			r.Fatal(err)
		}
		v, err := trust.Pointer(file, testWant)
		if err != nil {
			r.Fatal(err)
		}
		if got := v.Pointer(); got.Seq != p.Seq || got.Release != p.Release || got.Reason != p.Reason {
			r.Fatalf("got %+v, want %+v", got, p)
		}
	})
}
