package release

import (
	"crypto/ed25519"
	"encoding/base64"
	"math/big"
	"slices"
	"testing"
)

// signBare signs the payload alone, without its type, as a tool that does not know DSSE would.
func signBare(key PrivateKey, payload []byte) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(key.private(), payload))
}

// malleated adds the order of the group to the second half of a signature: verifiers that do not check its range take that
// for another valid signature of the same key.
func malleated(t testing.TB, s Signature) Signature {
	t.Helper()
	sig, err := base64.StdEncoding.DecodeString(s.Sig)
	must(t, err)
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	half := slices.Clone(sig[32:])
	slices.Reverse(half)
	sum := new(big.Int).Add(new(big.Int).SetBytes(half), order).FillBytes(make([]byte, 32))
	slices.Reverse(sum)
	return Signature{KeyID: s.KeyID, Sig: base64.StdEncoding.EncodeToString(append(sig[:32:32], sum...))}
}
