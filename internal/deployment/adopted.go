package deployment

// Adopted says that root has made a release directory out of what ran on the server before. It lies in the journal, and the
// engine takes the directory up as the release that is live: one that the first deployment can be taken back to.
type Adopted struct {
	Name   string   `json:"name"` // of the directory; its seq is 0, below that of every pointer
	Hash   string   `json:"hash"` // what the app calls its version, or "adopted"
	Msg    string   `json:"msg"`
	Date   string   `json:"date"`             // when it was made, RFC 3339, UTC
	Digest string   `json:"digest"`           // of what is in it, as of what is unpacked
	Shared []string `json:"shared,omitempty"` // paths that the digest leaves out
}

// AdoptedHash stands for the version of an adopted release whose own is not known.
const AdoptedHash = "adopted"
