// Package release is the contract between the two halves of Towline: what lies in the bucket, byte for byte.
//
// Three parties: a publisher (CI, or a person at a terminal) holds a private key and writes; a bucket holds the objects and
// is trusted with nothing; agents hold public keys and read. Four kinds of object:
//
//	<prefix>/releases/<version>-<sha12>.tar.zst          artifact, write-once
//	<prefix>/releases/<version>-<sha12>.json             Manifest in an Envelope, write-once, after its artifact
//	<prefix>/<environment>/history/<seq>.json            the pointer as it was at seq, write-once
//	<prefix>/<environment>/version.json                  the pointer: a File, the one object that changes
//	<prefix>/<environment>/receipts/<server>.json        written by agents; see package deployment
//
// What is signed is the payload of an Envelope (DSSE v1, ed25519), never JSON as text: there is no canonical form to agree
// on, only bytes. Encoding is frozen: fixed field order, no HTML escaping, times as strings, optional fields absent when
// empty. A payload is used only after
//
//  1. the caps of this package,
//  2. signatures by at least the threshold of distinct configured keys,
//  3. a lenient look at type and min_agent, so that an old agent says "too old" and not "corrupt",
//  4. a strict decode: encoding it again gives back the signed bytes, which rules out duplicate and unknown fields,
//  5. app, environment and artifact key equal to what the reader expects.
//
// The functions here touch no disk, network, clock or environment.
package release

// Version is the version of Towline; the programs of one checkout carry the same one.
const Version = "0.1.0"

// MinAgent is the oldest agent that understands the pointers written by this version.
const MinAgent = "0.1.0"
