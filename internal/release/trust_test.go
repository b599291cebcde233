package release

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A threshold counts keys, not signatures, key IDs or lines of a configuration.
func TestThresholdAndDistinctKeys(t *testing.T) {
	a, b, c, stranger := testKey(t, 1), testKey(t, 2), testKey(t, 3), testKey(t, 4)

	t.Run("load", func(t *testing.T) {
		var many []PublicKey
		for i := range maxKeys + 1 {
			many = append(many, testKey(t, byte(i+1)).Public())
		}
		again, err := ParsePublicKey(" " + a.Public().String() + "\n")
		must(t, err)
		for name, tc := range map[string]struct {
			keys      []PublicKey
			threshold int
			ok        bool
		}{
			"no keys":                    {nil, 1, false},
			"no keys, threshold zero":    {nil, 0, false},
			"threshold zero":             {[]PublicKey{a.Public()}, 0, false},
			"threshold below zero":       {[]PublicKey{a.Public()}, -1, false},
			"threshold far below zero":   {[]PublicKey{a.Public()}, -1 << 62, false},
			"threshold over keys":        {[]PublicKey{a.Public()}, 2, false},
			"threshold far over keys":    {[]PublicKey{a.Public()}, 1 << 62, false},
			"one key twice":              {[]PublicKey{a.Public(), a.Public()}, 2, false},
			"one key twice, apart":       {[]PublicKey{a.Public(), b.Public(), a.Public()}, 3, false},
			"one key in another writing": {[]PublicKey{a.Public(), again}, 2, false},
			"one key twice, one wanted":  {[]PublicKey{a.Public(), a.Public()}, 1, true},
			"two of three":               {[]PublicKey{a.Public(), b.Public(), c.Public()}, 2, true},
			"as many as there may be":    {many[:maxKeys], maxKeys, true},
			"too many":                   {many, 1, false},
		} {
			trust, err := NewTrust(tc.keys, tc.threshold)
			if got := err == nil; got != tc.ok {
				t.Errorf("%s: err = %v, want accepted: %v", name, err, tc.ok)
			}
			if _, perr := trust.Pointer(pointerBy(t, a), testWant); err != nil && !errors.Is(perr, ErrVerify) {
				t.Errorf("%s: the Trust that came with the error: %v, want ErrVerify", name, perr)
			}
		}
	})

	// Signatures are put together by hand: envelopes that SignPointer would never write.
	sign := func(k PrivateKey) Signature {
		payload, err := encode(testPointer())
		must(t, err)
		env, err := seal(PointerPayloadType, payload, []PrivateKey{k})
		must(t, err)
		return env.Signatures[0]
	}
	named := func(s Signature, by PrivateKey) Signature { s.KeyID = by.Public().ID(); return s }
	cases := map[string]struct {
		keys      []PrivateKey
		threshold int
		sigs      []Signature
		ok        bool
	}{
		"both":                                  {[]PrivateKey{a, b}, 2, []Signature{sign(a), sign(b)}, true},
		"both, the other way round":             {[]PrivateKey{a, b}, 2, []Signature{sign(b), sign(a)}, true},
		"two of three":                          {[]PrivateKey{a, b, c}, 2, []Signature{sign(c), sign(a)}, true},
		"two and a stranger":                    {[]PrivateKey{a, b}, 2, []Signature{sign(stranger), sign(a), sign(b)}, true},
		"none":                                  {[]PrivateKey{a, b}, 2, nil, false},
		"one":                                   {[]PrivateKey{a, b}, 2, []Signature{sign(a)}, false},
		"one, twice":                            {[]PrivateKey{a, b}, 2, []Signature{sign(a), sign(a)}, false},
		"one, eight times":                      {[]PrivateKey{a, b}, 2, slices.Repeat([]Signature{sign(a)}, MaxSignatures), false},
		"one and a stranger":                    {[]PrivateKey{a, b}, 2, []Signature{sign(a), sign(stranger)}, false},
		"two strangers":                         {[]PrivateKey{a, b}, 2, []Signature{sign(c), sign(stranger)}, false},
		"one, once under the other's ID":        {[]PrivateKey{a, b}, 2, []Signature{sign(a), named(sign(a), b)}, false},
		"one under the other's ID alone":        {[]PrivateKey{a, b}, 1, []Signature{named(sign(a), b)}, false},
		"one, once under no ID":                 {[]PrivateKey{a, b}, 2, []Signature{sign(a), {Sig: sign(a).Sig}}, false},
		"one, once under its ID in upper case":  {[]PrivateKey{a, b}, 2, []Signature{sign(a), {strings.ToUpper(sign(a).KeyID), sign(a).Sig}}, false},
		"one, once under its whole digest":      {[]PrivateKey{a, b}, 2, []Signature{sign(a), {sign(a).KeyID + strings.Repeat("0", 48), sign(a).Sig}}, false},
		"one, once with the order added to it":  {[]PrivateKey{a, b}, 2, []Signature{sign(a), malleated(t, sign(a))}, false},
		"one with the order added to it, alone": {[]PrivateKey{a}, 1, []Signature{malleated(t, sign(a))}, false},
		"a stranger under a trusted ID":         {[]PrivateKey{a}, 1, []Signature{named(sign(stranger), a)}, false},
		"a broken one before a good one":        {[]PrivateKey{a}, 1, []Signature{{sign(a).KeyID, "AAAA"}, sign(a)}, true},
		"no text for a signature":               {[]PrivateKey{a}, 1, []Signature{{sign(a).KeyID, ""}}, false},
		"nine, two of them good":                {[]PrivateKey{a, b}, 2, append(slices.Repeat([]Signature{sign(stranger)}, 7), sign(a), sign(b)), false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			payload, err := encode(testPointer())
			must(t, err)
			file, err := encodeFile(testPointer(), Envelope{
				PayloadType: PointerPayloadType, Payload: base64.StdEncoding.EncodeToString(payload), Signatures: append([]Signature{}, tc.sigs...),
			})
			must(t, err)
			v, err := testTrust(t, tc.threshold, tc.keys...).Pointer(file, testWant)
			if v.Valid() != tc.ok || !tc.ok && !errors.Is(err, ErrVerify) {
				t.Errorf("accepted: %v, %v, want %v", v.Valid(), err, tc.ok)
			}
			if signers := slices.Compact(slices.Sorted(slices.Values(v.Signers()))); tc.ok && len(signers) < tc.threshold {
				t.Errorf("signers = %v, want at least %d", signers, tc.threshold)
			}
		})
	}

	// Nothing makes a trust that asks for nothing: neither the zero value nor one that was never loaded.
	for _, file := range [][]byte{pointerBy(t, a), pointerBy(t), []byte(`{"hash":"abc","msg":"m","date":"d"}`), []byte(`{"envelope":{"payloadType":"` + PointerPayloadType + `"}}`)} {
		if v, err := (Trust{}).Pointer(file, testWant); v.Valid() || !errors.Is(err, ErrVerify) {
			t.Errorf("the zero Trust: err = %v, want ErrVerify", err)
		}
		if _, err := (Trust{}).Manifest(file, testWant); !errors.Is(err, ErrVerify) {
			t.Errorf("the zero Trust: err = %v, want ErrVerify", err)
		}
	}
}

// A signature over one kind of object says nothing about another, even where the bytes are the same.
func TestPayloadTypeConfusion(t *testing.T) {
	key := testKey(t, 1)
	trust := testTrust(t, 1, key)
	pointer, err := encode(testPointer())
	must(t, err)
	manifest, err := encode(testManifest())
	must(t, err)
	// file puts a signature, made for the type signedAs, beside a payload that says it is of the type saysIt.
	envelope := func(payload []byte, signedAs, saysIt string) Envelope {
		env, err := seal(signedAs, payload, []PrivateKey{key})
		must(t, err)
		env.PayloadType = saysIt
		return env
	}
	asPointer := func(env Envelope) []byte { file, err := encodeFile(testPointer(), env); must(t, err); return file }
	asManifest := func(env Envelope) []byte { file, err := indent(env); must(t, err); return file }
	if _, err := trust.Pointer(asPointer(envelope(pointer, PointerPayloadType, PointerPayloadType)), testWant); err != nil {
		t.Fatalf("the pointer itself: %v", err)
	}
	if _, err := trust.Manifest(asManifest(envelope(manifest, ManifestPayloadType, ManifestPayloadType)), testWant); err != nil {
		t.Fatalf("the release object itself: %v", err)
	}

	types := []string{
		PointerPayloadType, ManifestPayloadType, "", "application/json", "application/vnd.in-toto+json", PointerPayloadType + " ", PointerPayloadType + "\x00",
		strings.ToUpper(PointerPayloadType), strings.Replace(PointerPayloadType, "v1", "v2", 1), strings.TrimSuffix(PointerPayloadType, "+json"),
	}
	payloads := map[string][]byte{
		"pointer": pointer, "release object": manifest, "neither": []byte("{}"),
		"pointer that says it is a release object": []byte(strings.Replace(string(pointer), PointerType, ManifestType, 1)),
		"release object that says it is a pointer": []byte(strings.Replace(string(manifest), ManifestType, PointerType, 1)),
	}
	for name, payload := range payloads {
		for _, signedAs := range types {
			for _, saysIt := range types {
				env := envelope(payload, signedAs, saysIt)
				what := fmt.Sprintf("a %s signed as %q, offered as %q", name, signedAs, saysIt)
				genuine := signedAs == saysIt
				for place, file := range map[string][]byte{"version.json": asPointer(env), "release object": asManifest(env)} {
					v, err := trust.Pointer(file, testWant)
					want := genuine && name == "pointer" && signedAs == PointerPayloadType && place == "version.json"
					if v.Valid() != want || !want && !errors.Is(err, ErrVerify) {
						t.Errorf("%s in a %s: pointer accepted: %v, %v, want %v", what, place, v.Valid(), err, want)
					}
					_, err = trust.Manifest(file, testWant)
					want = genuine && name == "release object" && signedAs == ManifestPayloadType && place == "release object"
					if (err == nil) != want || !want && !errors.Is(err, ErrVerify) {
						t.Errorf("%s in a %s: release object accepted: %v, want %v", what, place, err, want)
					}
				}
			}
		}
	}

	// The lengths in what is signed keep bytes from moving between type and payload.
	joined := string(signed(PointerPayloadType, pointer))
	for cut := 1; cut < 20; cut++ {
		env := envelope(pointer, PointerPayloadType, PointerPayloadType+string(pointer[:cut]))
		env.Payload = base64.StdEncoding.EncodeToString(pointer[cut:])
		if string(signed(env.PayloadType, pointer[cut:])) == joined {
			t.Errorf("%d bytes moved from the payload to its type: the same text is signed", cut)
		}
		if v, err := trust.Pointer(asPointer(env), testWant); v.Valid() || !errors.Is(err, ErrVerify) {
			t.Errorf("%d bytes moved: err = %v, want ErrVerify", cut, err)
		}
	}

	// A signature over the payload without its type, as other tools make it.
	bare := envelope(pointer, PointerPayloadType, PointerPayloadType)
	bare.Signatures[0].Sig = signBare(key, pointer)
	plain := []byte(`{"hash":"e02371ab6db3a60c3f9ead35e36187c91155b5a1","msg":"m","date":"d"}`)
	for name, file := range map[string][]byte{
		"signed without type":            asPointer(bare),
		"plain pointer":                  plain,
		"plain, envelope null":           []byte(`{"hash":"abc","msg":"m","date":"d","envelope":null}`),
		"plain, empty envelope":          []byte(`{"hash":"abc","msg":"m","date":"d","seq":1,"envelope":{}}`),
		"envelope without signatures":    asPointer(Envelope{PayloadType: PointerPayloadType, Payload: base64.StdEncoding.EncodeToString(pointer), Signatures: []Signature{}}),
		"envelope in another case":       []byte(strings.Replace(string(pointerBy(t, key)), `"envelope"`, `"Envelope"`, 1)),
		"envelope as the whole file":     asManifest(envelope(pointer, PointerPayloadType, PointerPayloadType)),
		"payload as the whole file":      pointer,
		"release object in the envelope": mustJSON(t, map[string]any{"hash": "abc", "envelope": json.RawMessage(asManifest(envelope(manifest, ManifestPayloadType, ManifestPayloadType)))}),
	} {
		if v, err := trust.Pointer(file, testWant); v.Valid() || !errors.Is(err, ErrVerify) {
			t.Errorf("%s: err = %v, want ErrVerify", name, err)
		}
		if _, err := trust.Manifest(file, testWant); !errors.Is(err, ErrVerify) {
			t.Errorf("%s as release object: err = %v, want ErrVerify", name, err)
		}
	}
}

func pointerBy(t *testing.T, keys ...PrivateKey) []byte {
	t.Helper()
	file, err := SignPointer(testPointer(), keys...)
	must(t, err)
	return file
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	must(t, err)
	return data
}
