package release

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// File is version.json: plain fields for people, the envelope for agents. The plain fields repeat what is signed; a file
// in which they differ is refused, so that an edit by hand is noticed instead of ignored.
type File struct {
	Hash     string   `json:"hash"`
	Msg      string   `json:"msg"`
	Date     string   `json:"date"`
	Seq      uint64   `json:"seq"`
	Envelope Envelope `json:"envelope"`
}

// SignPointer returns the bytes of version.json for p, signed with each of the keys. Without keys the file is unsigned.
// It refuses a pointer that a reader would refuse.
func SignPointer(p Pointer, keys ...PrivateKey) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("sign pointer: %w", err)
	}
	payload, err := encode(p)
	if err != nil {
		return nil, fmt.Errorf("sign pointer: %w", err)
	}
	env, err := seal(PointerPayloadType, payload, keys)
	if err != nil {
		return nil, err
	}
	return encodeFile(p, env)
}

// SignManifest returns the bytes of a release object for m, signed with each of the keys.
func SignManifest(m Manifest, keys ...PrivateKey) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("sign release: %w", err)
	}
	payload, err := encode(m)
	if err != nil {
		return nil, fmt.Errorf("sign release: %w", err)
	}
	env, err := seal(ManifestPayloadType, payload, keys)
	if err != nil {
		return nil, err
	}
	return indent(env)
}

func encodeFile(p Pointer, env Envelope) ([]byte, error) {
	return indent(File{Hash: p.Release.Hash, Msg: p.Release.Msg, Date: p.Release.Date, Seq: p.Seq, Envelope: env})
}

// encode is the frozen encoding of a payload.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func indent(v any) ([]byte, error) {
	compact, err := encode(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, compact, "", "  "); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}
