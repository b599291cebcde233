package deployment

// Integrity is what is known of a release directory after it was read against what was unpacked.
type Integrity string

// What a release directory may be found to be.
const (
	Sound   Integrity = "ok"        // every byte is as it was unpacked
	Drifted Integrity = "changed"   // something is not, or the directory is gone
	Unknown Integrity = "not known" // nothing says what was unpacked
	Unread  Integrity = "unread"    // it could not be read
)

// Verification is what was found out about one release directory.
type Verification struct {
	Name    string       `json:"name"` // of the directory
	Seq     uint64       `json:"seq"`  // 0 for plain pointers
	Hash    string       `json:"hash"`
	Live    bool         `json:"live"`
	State   Integrity    `json:"state"`
	Reason  string       `json:"reason,omitempty"`  // why it is not known, or changed without a path to name
	Differ  []Difference `json:"differ,omitempty"`  // at most MaxDifferences of them, by path
	More    int          `json:"more,omitempty"`    // how many there are beyond those
	Checked string       `json:"checked,omitempty"` // when it was read, RFC 3339, UTC
}

// MaxDifferences is how many paths of one release directory are named.
const MaxDifferences = 20

// Difference is a path of a release directory that is not as it was unpacked.
type Difference struct {
	Path string `json:"path"`
	What string `json:"what"` // Changed, Added, Missing or Mode
}

// What may differ at a path.
const (
	Changed = "changed" // its content, a symlink's target, or what kind of thing it is
	Added   = "added"
	Missing = "missing"
	Mode    = "mode" // only its permissions
)

// Sealed is what is known of a release directory from the moment that it is complete. Moments are opaque.
type Sealed struct {
	Print  string // fingerprint of its metadata, where every entry was looked at
	Looked string // moment before that look
	Window string // where no entry was looked at: the moments between which the agent worked on it
}
