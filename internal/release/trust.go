package release

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrVerify is wrapped by every refusal of a signature, a digest, a pointer meant for somebody else or a malformed
// payload: what was read must not be used.
var ErrVerify = errors.New("verification failed")

// ErrTooOld is wrapped, beside ErrVerify, when a pointer asks for a newer agent.
var ErrTooOld = errors.New("this agent is too old")

// maxKeys bounds a Trust: more keys mean a configuration error, and every key costs a verification per signature.
const maxKeys = 16

// Trust is whose signatures a reader demands. The zero value refuses everything.
type Trust struct {
	keys      []PublicKey
	threshold int
	none      bool
}

// ErrUnsigned says that an envelope has no signature at all, as where trust is none.
var ErrUnsigned = errors.New("it has no signature")

// NewTrust demands signatures by at least threshold distinct keys out of keys.
func NewTrust(keys []PublicKey, threshold int) (Trust, error) {
	distinct := slices.Clone(keys)
	slices.SortFunc(distinct, func(a, b PublicKey) int { return bytes.Compare([]byte(a.key), []byte(b.key)) })
	distinct = slices.Compact(distinct)
	switch {
	case len(distinct) == 0:
		return Trust{}, errors.New("trust: no keys")
	case len(distinct) > maxKeys:
		return Trust{}, fmt.Errorf("trust: %d keys, at most %d", len(distinct), maxKeys)
	case threshold < 1:
		return Trust{}, fmt.Errorf("trust: threshold %d, at least 1", threshold)
	case threshold > len(distinct):
		return Trust{}, fmt.Errorf("trust: threshold %d with %d distinct keys can never be met", threshold, len(distinct))
	}
	return Trust{keys: distinct, threshold: threshold}, nil
}

// NoTrust accepts unsigned pointers and plain ones. It must be asked for in writing.
func NoTrust() Trust { return Trust{none: true} }

// None reports whether the trust is NoTrust.
func (t Trust) None() bool { return t.none }

// Keys returns the text forms of the trusted keys, sorted.
func (t Trust) Keys() []string {
	var out []string
	for _, k := range t.keys {
		out = append(out, k.String())
	}
	return out
}

// Want is whom a pointer must be meant for.
type Want struct {
	App         string
	Environment string
	Prefix      string
	Agent       string // the reader's own version; Version when empty
}

// Verified is a pointer that passed every rule. Only Trust makes one; the zero value is not Valid.
type Verified struct {
	pointer Pointer
	digest  string
	plain   bool
	signers []string
	signed  bool
	valid   bool
}

// Signed reports whether the envelope has signatures at all, also where nobody asked for them.
func (v Verified) Signed() bool { return v.signed }

// Valid reports whether v came out of Trust.Pointer.
func (v Verified) Valid() bool { return v.valid }

// Pointer returns the pointer. For a plain one only Release.Hash, Msg and Date are filled, and Date is opaque.
func (v Verified) Pointer() Pointer { return v.pointer }

// Digest is the pointer's identity: the hex SHA-256 of its payload, for a plain pointer of the whole file.
func (v Verified) Digest() string { return v.digest }

// Plain reports whether this is the bare {hash,msg,date} pointer of the shell recipe.
func (v Verified) Plain() bool { return v.plain }

// Signers returns the IDs of the trusted keys that signed.
func (v Verified) Signers() []string { return v.signers }

// Expired reports whether the pointer had expired at now. Plain pointers do not expire.
func (v Verified) Expired(now time.Time) bool {
	expires, err := time.Parse(time.RFC3339, v.pointer.Expires)
	return err == nil && now.After(expires)
}

// Pointer verifies the bytes of a version.json. Every refusal wraps ErrVerify.
func (t Trust) Pointer(file []byte, w Want) (Verified, error) {
	v, err := t.pointer(file, w)
	if err != nil {
		return Verified{}, fmt.Errorf("pointer: %w: %w", ErrVerify, err)
	}
	return v, nil
}

func (t Trust) pointer(file []byte, w Want) (Verified, error) {
	if len(file) > MaxEnvelope {
		return Verified{}, fmt.Errorf("%d bytes are over the cap of %d", len(file), MaxEnvelope)
	}
	var look struct {
		Envelope *Envelope `json:"envelope"`
	}
	if err := json.Unmarshal(file, &look); err != nil {
		return Verified{}, fmt.Errorf("not JSON: %w", err)
	}
	if look.Envelope == nil {
		if !t.none {
			return Verified{}, errors.New("it is not signed")
		}
		return plainPointer(file)
	}
	payload, signers, err := t.open(*look.Envelope, PointerPayloadType)
	if err != nil {
		return Verified{}, err
	}
	if err := lookAtType(payload, PointerType, w.Agent); err != nil {
		return Verified{}, err
	}
	var p Pointer
	if err := decodeStrict(payload, &p); err != nil {
		return Verified{}, err
	}
	if err := p.check(); err != nil {
		return Verified{}, err
	}
	again, err := encodeFile(p, *look.Envelope)
	if err != nil {
		return Verified{}, err
	}
	if !equalJSON(file, again) {
		return Verified{}, errors.New("the plain fields differ from what is signed; was the file edited by hand?")
	}
	if p.App != w.App {
		return Verified{}, fmt.Errorf("it is for app %q, not for %q", p.App, w.App)
	}
	if p.Environment != w.Environment {
		return Verified{}, fmt.Errorf("it is for environment %q, not for %q", p.Environment, w.Environment)
	}
	if want := ArtifactKey(w.Prefix, p.Release.Hash, p.Artifact.SHA256, p.Artifact.Format); p.Artifact.Key != want {
		return Verified{}, fmt.Errorf("it names artifact %q, want %q", p.Artifact.Key, want)
	}
	return Verified{pointer: p, digest: digest(payload), signers: signers, signed: len(look.Envelope.Signatures) > 0, valid: true}, nil
}

// Manifest verifies the bytes of a release object. Every refusal wraps ErrVerify.
func (t Trust) Manifest(file []byte, w Want) (Manifest, error) {
	m, err := t.manifest(file, w)
	if err != nil {
		return Manifest{}, fmt.Errorf("release object: %w: %w", ErrVerify, err)
	}
	return m, nil
}

func (t Trust) manifest(file []byte, w Want) (Manifest, error) {
	var m Manifest
	if len(file) > MaxEnvelope {
		return m, fmt.Errorf("%d bytes are over the cap of %d", len(file), MaxEnvelope)
	}
	var env Envelope
	if err := json.Unmarshal(file, &env); err != nil {
		return m, fmt.Errorf("not JSON: %w", err)
	}
	payload, _, err := t.open(env, ManifestPayloadType)
	if err != nil {
		return m, err
	}
	if err := lookAtType(payload, ManifestType, w.Agent); err != nil {
		return m, err
	}
	if err := decodeStrict(payload, &m); err != nil {
		return m, err
	}
	if err := m.check(); err != nil {
		return m, err
	}
	again, err := indent(env)
	if err != nil {
		return m, err
	}
	if !equalJSON(file, again) {
		return m, errors.New("it holds fields that are not signed")
	}
	if m.App != w.App {
		return m, fmt.Errorf("it is for app %q, not for %q", m.App, w.App)
	}
	if want := ArtifactKey(w.Prefix, m.Release.Hash, m.Artifact.SHA256, m.Artifact.Format); m.Artifact.Key != want {
		return m, fmt.Errorf("it names artifact %q, want %q", m.Artifact.Key, want)
	}
	return m, nil
}

// open returns the payload of an envelope once enough distinct keys have signed it.
func (t Trust) open(e Envelope, payloadType string) (payload []byte, signers []string, err error) {
	if e.PayloadType != payloadType {
		return nil, nil, fmt.Errorf("payload type %q, want %q", e.PayloadType, payloadType)
	}
	if len(e.Signatures) > MaxSignatures {
		return nil, nil, fmt.Errorf("%d signatures, at most %d", len(e.Signatures), MaxSignatures)
	}
	if base64.StdEncoding.DecodedLen(len(e.Payload)) > MaxPayload+2 {
		return nil, nil, fmt.Errorf("payload is over the cap of %d bytes", MaxPayload)
	}
	payload, err = decodeBase64(e.Payload)
	if err != nil {
		return nil, nil, fmt.Errorf("payload is not base64: %w", err)
	}
	if len(payload) > MaxPayload {
		return nil, nil, fmt.Errorf("payload is over the cap of %d bytes", MaxPayload)
	}
	if t.none {
		return payload, nil, nil
	}
	if t.threshold < 1 {
		return nil, nil, errors.New("no key is trusted")
	}
	message := signed(payloadType, payload)
	for _, k := range t.keys {
		if slices.ContainsFunc(e.Signatures, func(s Signature) bool { return k.signed(message, s) }) {
			signers = append(signers, k.ID())
		}
	}
	if len(e.Signatures) == 0 {
		return nil, nil, fmt.Errorf("signed by 0 of the trusted keys, want %d; %w", t.threshold, ErrUnsigned)
	}
	if len(signers) < t.threshold {
		return nil, nil, fmt.Errorf("signed by %d of the trusted keys, want %d%s", len(signers), t.threshold, otherSigners(e))
	}
	return payload, signers, nil
}

func (k PublicKey) signed(message []byte, s Signature) bool {
	if s.KeyID != k.ID() {
		return false
	}
	sig, err := decodeBase64(s.Sig)
	return err == nil && ed25519.Verify(ed25519.PublicKey(k.key), message, sig)
}

// decodeBase64 accepts the one text that encodes to s: Strict alone would skip line ends.
func decodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("it has line ends")
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

// otherSigners names who did sign, for the person who has to find out why it was not enough.
func otherSigners(e Envelope) string {
	text := "; it names key"
	for _, s := range e.Signatures {
		text += " " + CleanText(s.KeyID, 16)
	}
	return text
}

// lookAtType reads type and min_agent without demanding that the rest be understood.
func lookAtType(payload []byte, want, agent string) error {
	var look struct {
		Type     string `json:"type"`
		MinAgent string `json:"min_agent"`
	}
	if err := json.Unmarshal(payload, &look); err != nil {
		return fmt.Errorf("payload is not JSON: %w", err)
	}
	if agent == "" {
		agent = Version
	}
	if look.MinAgent != "" {
		need, err := parseVersion(look.MinAgent)
		if err != nil {
			return fmt.Errorf("min_agent: %w", err)
		}
		have, err := parseVersion(agent)
		if err != nil {
			return fmt.Errorf("own version: %w", err)
		}
		if slices.Compare(have[:], need[:]) < 0 {
			return fmt.Errorf("%w: it is %s and the pointer asks for %s", ErrTooOld, agent, look.MinAgent)
		}
	}
	if look.Type != want {
		return fmt.Errorf("type %q, want %q", CleanText(look.Type, 40), want)
	}
	return nil
}

// decodeStrict accepts only the frozen encoding: what it decodes must encode to the same bytes. That refuses duplicate,
// unknown and differently cased fields and trailing data, all of which encoding/json lets pass.
func decodeStrict[T Pointer | Manifest](payload []byte, v *T) error {
	if err := json.Unmarshal(payload, v); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	again, err := encode(*v)
	if err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	if !bytes.Equal(payload, again) {
		return errors.New("payload is not in the encoding that this version writes")
	}
	return nil
}

// plainPointer reads the pointer of the shell recipe.
func plainPointer(file []byte) (Verified, error) {
	// What the script wrote as msg and date is only shown, so any JSON will do there.
	var plain struct {
		Hash string `json:"hash"`
		Msg  opaque `json:"msg"`
		Date opaque `json:"date"`
	}
	if err := json.Unmarshal(file, &plain); err != nil {
		return Verified{}, fmt.Errorf("not a {hash,msg,date} pointer: %w", err)
	}
	if err := CheckVersion(plain.Hash); err != nil {
		return Verified{}, fmt.Errorf("hash: %w", err)
	}
	p := Pointer{Release: Release{Hash: plain.Hash, Msg: FirstLine(string(plain.Msg)), Date: CleanText(string(plain.Date), 100)}}
	return Verified{pointer: p, digest: digest(file), plain: true, valid: true}, nil
}

// opaque is the text of a JSON string, or any other JSON as it stands.
type opaque string

func (o *opaque) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) != nil {
		s = string(b)
	}
	*o = opaque(s)
	return nil
}

// equalJSON compares two documents apart from white space between tokens.
func equalJSON(a, b []byte) bool {
	var ca, cb bytes.Buffer
	return json.Compact(&ca, a) == nil && json.Compact(&cb, b) == nil && bytes.Equal(ca.Bytes(), cb.Bytes())
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
