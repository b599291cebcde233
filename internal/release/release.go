package release

// Object types, payload types and limits of the wire format.
const (
	PointerType         = "pointer.v1"
	ManifestType        = "release.v1"
	PointerPayloadType  = "application/vnd.towline.pointer.v1+json"
	ManifestPayloadType = "application/vnd.towline.release.v1+json"

	MaxEnvelope   = 64 << 10 // bytes of an envelope, version.json included
	MaxPayload    = 16 << 10 // bytes of a decoded payload
	MaxSignatures = 8
	MaxMessage    = 200 // runes of Release.Msg
)

// Artifact formats.
const (
	FormatZstd = "tar+zstd"
	FormatGzip = "tar+gzip"
)

// Kind says why a pointer was written.
type Kind string

// The kinds of a pointer.
const (
	KindDeploy   Kind = "deploy"
	KindPromote  Kind = "promote"
	KindRollback Kind = "rollback"
)

// Pointer is the one mutable object of an environment: the release that should be live. The order of the fields
// is part of the format: Encode writes them so, and a payload that does not re-encode to its own bytes is refused.
type Pointer struct {
	Type        string   `json:"type"`
	MinAgent    string   `json:"min_agent"`
	App         string   `json:"app"`
	Environment string   `json:"environment"`
	Seq         uint64   `json:"seq"`
	Prev        string   `json:"prev"` // hex SHA-256 of the payload of history seq-1; empty at 1
	Release     Release  `json:"release"`
	Artifact    Artifact `json:"artifact"`
	Kind        Kind     `json:"kind"`
	Reason      string   `json:"reason,omitempty"`
	Rollout     *Rollout `json:"rollout,omitempty"`
	Run         *Run     `json:"run,omitempty"`
	Created     string   `json:"created"` // RFC 3339, UTC
	Expires     string   `json:"expires"` // RFC 3339, UTC
}

// Manifest is the release as it lies beside its artifact: what promote and rollback verify and copy from.
type Manifest struct {
	Type     string   `json:"type"`
	App      string   `json:"app"`
	Release  Release  `json:"release"`
	Artifact Artifact `json:"artifact"`
	Run      *Run     `json:"run,omitempty"`
	Created  string   `json:"created"`
}

// Release names one version of an app.
type Release struct {
	Hash string `json:"hash"` // the version: a full commit hash, or any valid version
	Msg  string `json:"msg"`  // first line of the commit message, at most MaxMessage runes
	Date string `json:"date"` // commit date, RFC 3339
}

// Artifact is where the archive lies and what its bytes must be.
type Artifact struct {
	Key          string `json:"key"`
	SHA256       string `json:"sha256"`        // 64 hex digits, of the whole object
	Size         int64  `json:"size"`          // bytes
	UnpackedSize int64  `json:"unpacked_size"` // bytes of all regular files
	Entries      int64  `json:"entries"`       // files, directories and symlinks
	Format       string `json:"format"`        // FormatZstd or FormatGzip
	Index        *Index `json:"index,omitempty"`
}

// Index is where the frame index lies inside a tar+zstd artifact.
type Index struct {
	Offset int64  `json:"offset"` // bytes from the start of the artifact
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // 64 hex digits, of those bytes
}

// Rollout is a rollout in waves. An agent without waves refuses a pointer that has one.
type Rollout struct {
	Waves []string `json:"waves"`
	Open  int      `json:"open"`
}

// Run is the CI run that wrote the object.
type Run struct {
	URL        string `json:"url,omitempty"`
	Actor      string `json:"actor,omitempty"`
	Repository string `json:"repository,omitempty"`
	Ref        string `json:"ref,omitempty"`
}
