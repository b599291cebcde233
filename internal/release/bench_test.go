package release

import "testing"

// BenchmarkVerifyPointer is what every look at a changed pointer costs: parse, one signature, strict decoding.
func BenchmarkVerifyPointer(b *testing.B) {
	key := testKey(b, 1)
	file, err := SignPointer(testPointer(), key)
	must(b, err)
	trust := testTrust(b, 1, key)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := trust.Pointer(file, testWant); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefusePointer is what a forged one costs: a signature by another key under the trusted one's ID.
func BenchmarkRefusePointer(b *testing.B) {
	key, other := testKey(b, 1), testKey(b, 2)
	payload, err := encode(testPointer())
	must(b, err)
	env, err := seal(PointerPayloadType, payload, []PrivateKey{other})
	must(b, err)
	env.Signatures[0].KeyID = key.Public().ID()
	file, err := encodeFile(testPointer(), env)
	must(b, err)
	trust := testTrust(b, 1, key)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := trust.Pointer(file, testWant); err == nil {
			b.Fatal("accepted")
		}
	}
}
