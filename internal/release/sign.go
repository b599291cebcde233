package release

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

const (
	publicPrefix  = "ed25519:"
	privatePrefix = "towline-secret-ed25519:"
)

// PublicKey verifies what the matching PrivateKey signed. Its text form is "ed25519:<base64 of the 32 bytes>".
type PublicKey struct{ key string }

// ParsePublicKey reads the text form of a public key.
func ParsePublicKey(s string) (PublicKey, error) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, privatePrefix) {
		return PublicKey{}, fmt.Errorf("public key: this is a private key; it belongs into CI's secrets only")
	}
	b64, ok := strings.CutPrefix(s, publicPrefix)
	if !ok {
		return PublicKey{}, fmt.Errorf("public key %q: want ed25519:<base64>, as towline keygen prints it", CleanText(s, 80))
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(b64)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return PublicKey{}, fmt.Errorf("public key %q: want ed25519: and 32 bytes in base64", CleanText(s, 80))
	}
	return PublicKey{string(raw)}, nil
}

// String returns the text form.
func (k PublicKey) String() string {
	return publicPrefix + base64.StdEncoding.EncodeToString([]byte(k.key))
}

// ID names the key in signatures: the first 16 hex digits of the SHA-256 of its bytes.
func (k PublicKey) ID() string {
	sum := sha256.Sum256([]byte(k.key))
	return hex.EncodeToString(sum[:8])
}

// PrivateKey signs. It prints as *** with every verb; Reveal gives the text to store.
type PrivateKey struct{ seed string }

// GenerateKey makes a key from random, which is crypto/rand outside of tests.
func GenerateKey(random io.Reader) (PrivateKey, error) {
	if random == nil {
		random = rand.Reader
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return PrivateKey{}, fmt.Errorf("generate key: %w", err)
	}
	return PrivateKey{string(seed)}, nil
}

// ParsePrivateKey reads what Reveal gave. The text never appears in the error.
func ParsePrivateKey(s string) (PrivateKey, error) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, publicPrefix) {
		return PrivateKey{}, fmt.Errorf("signing key: this is a public key; the private one begins with %s", privatePrefix)
	}
	b64, ok := strings.CutPrefix(s, privatePrefix)
	if !ok {
		return PrivateKey{}, fmt.Errorf("signing key: want %s<base64>, as towline keygen prints it", privatePrefix)
	}
	if strings.Contains(b64, privatePrefix) {
		return PrivateKey{}, fmt.Errorf("signing key: several in one line: want one key a line")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(b64)
	if err != nil || len(raw) != ed25519.SeedSize {
		return PrivateKey{}, fmt.Errorf("signing key: want 32 bytes in base64 after %s; was it cut when it was pasted?", privatePrefix)
	}
	return PrivateKey{string(raw)}, nil
}

// Reveal returns the secret text form.
func (k PrivateKey) Reveal() string {
	return privatePrefix + base64.StdEncoding.EncodeToString([]byte(k.seed))
}

// Format keeps the key out of logs: it prints *** whatever the verb.
func (k PrivateKey) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "***") }

// Public returns the matching public key.
func (k PrivateKey) Public() PublicKey {
	return PublicKey{string(k.private().Public().(ed25519.PublicKey))}
}

func (k PrivateKey) private() ed25519.PrivateKey { return ed25519.NewKeyFromSeed([]byte(k.seed)) }

// Envelope is a DSSE v1 envelope.
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     string      `json:"payload"` // base64 of the signed bytes
	Signatures  []Signature `json:"signatures"`
}

// Signature is one signature of an Envelope.
type Signature struct {
	KeyID string `json:"keyid"` // PublicKey.ID of the signer
	Sig   string `json:"sig"`   // base64
}

// seal signs payload with each key; without keys the list of signatures is empty, which only readers without trust
// accept.
func seal(payloadType string, payload []byte, keys []PrivateKey) (Envelope, error) {
	if len(payload) > MaxPayload {
		return Envelope{}, fmt.Errorf("sign %s: payload of %d bytes is over the cap of %d", payloadType, len(payload), MaxPayload)
	}
	if len(keys) > MaxSignatures {
		return Envelope{}, fmt.Errorf("sign %s: %d keys, at most %d", payloadType, len(keys), MaxSignatures)
	}
	e := Envelope{PayloadType: payloadType, Payload: base64.StdEncoding.EncodeToString(payload), Signatures: []Signature{}}
	for _, k := range keys {
		sig := ed25519.Sign(k.private(), signed(payloadType, payload))
		e.Signatures = append(e.Signatures, Signature{KeyID: k.Public().ID(), Sig: base64.StdEncoding.EncodeToString(sig)})
	}
	return e, nil
}

// signed is DSSE's pre-authentication encoding: it binds the payload to its type, so that a signature over one kind of
// object says nothing about another.
func signed(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}
