package endurance

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// kind is a sort of release and what must become of it.
type kind struct {
	name    string
	outcome deployment.Outcome
	reason  string // stands in the record
}

var (
	good = kind{"good", deployment.Deployed, ""}
	bad  = []kind{
		{"does not start", deployment.RolledBack, "grep"},
		{"is not healthy", deployment.RolledBack, "500"},
		{"hook fails", deployment.Failed, "hook before-activate"},
		{"archive is refused", deployment.Failed, "unpack"},
		{"artifact is missing", deployment.Failed, "no such object"},
	}
)

// publisher signs pointers and writes into the bucket, past the gateway.
type publisher struct {
	t      *testing.T
	bucket bucket.Bucket
	key    release.PrivateKey
	seq    uint64
	prev   string
}

// publish moves the pointer to a new release of the kind, and returns it as it is published.
func (p *publisher) publish(k kind) (pointer []byte, hash string) {
	p.t.Helper()
	p.seq++
	sum := sha256.Sum256(fmt.Appendf(nil, "release %d", p.seq))
	hash = hex.EncodeToString(sum[:20])
	data, art := p.pack(k, hash)
	art.Key = release.ArtifactKey("web", hash, art.SHA256, art.Format)
	if k.name != "artifact is missing" {
		must(p.t, p.bucket.Put(p.t.Context(), art.Key, data, "application/octet-stream"))
	}
	now := time.Now().UTC()
	r := release.Pointer{
		Type: release.PointerType, MinAgent: release.MinAgent, App: "web", Environment: "production", Seq: p.seq, Prev: p.prev,
		Release:  release.Release{Hash: hash, Msg: fmt.Sprintf("Release %d, %s", p.seq, k.name), Date: now.Format(time.RFC3339)},
		Artifact: art, Kind: release.KindDeploy, Created: now.Format(time.RFC3339), Expires: now.Add(24 * time.Hour).Format(time.RFC3339),
	}
	pointer, err := release.SignPointer(r, p.key)
	must(p.t, err)
	none := release.NoTrust()
	v, err := none.Pointer(pointer, release.Want{App: "web", Environment: "production", Prefix: "web"})
	must(p.t, err)
	p.prev = v.Digest()
	must(p.t, p.bucket.Put(p.t.Context(), release.HistoryKey("web", "production", p.seq), pointer, "application/json"))
	must(p.t, p.bucket.Put(p.t.Context(), release.PointerKey("web", "production"), pointer, "application/json"))
	return pointer, hash
}

// pack makes the release's archive: all are of one size and have the same number of files.
func (p *publisher) pack(k kind, hash string) ([]byte, release.Artifact) {
	p.t.Helper()
	if k.name == "archive is refused" {
		return p.leaving()
	}
	dir := p.t.TempDir()
	hook := "#!/bin/sh\nexec true\n"
	if k.name == "hook fails" {
		hook = "#!/bin/sh\necho the schema is locked\nexit 3\n"
	}
	write := func(name, text string, mode os.FileMode) {
		must(p.t, os.WriteFile(filepath.Join(dir, name), []byte(text), mode))
	}
	write("version", hash+"\n", 0o644)
	write("kind", k.name+"\n", 0o644)
	write("hook", hook, 0o755)
	for i := range 10 {
		write(fmt.Sprintf("file%d", i), string(bytes.Repeat(fmt.Appendf(nil, "%s %d\n", hash, i), 400)), 0o644)
	}
	out, err := os.Create(filepath.Join(p.t.TempDir(), "artifact"))
	must(p.t, err)
	defer out.Close()
	art, err := artifact.Pack(p.t.Context(), out, artifact.PackOptions{Dir: dir, Format: release.FormatZstd})
	must(p.t, err)
	data, err := os.ReadFile(out.Name())
	must(p.t, err)
	must(p.t, os.RemoveAll(filepath.Dir(out.Name())))
	must(p.t, os.RemoveAll(dir))
	return data, art
}

// leaving is an archive with a file that would lie outside of the release.
func (p *publisher) leaving() ([]byte, release.Artifact) {
	p.t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	archive := tar.NewWriter(zip)
	text := fmt.Sprintf("out of release %d\n", p.seq)
	must(p.t, archive.WriteHeader(&tar.Header{Name: "../outside", Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}))
	_, err := archive.Write([]byte(text))
	must(p.t, err)
	must(p.t, archive.Close())
	must(p.t, zip.Close())
	sum := sha256.Sum256(out.Bytes())
	return out.Bytes(), release.Artifact{
		SHA256: hex.EncodeToString(sum[:]), Size: int64(out.Len()), UnpackedSize: int64(len(text)), Entries: 1, Format: release.FormatGzip,
	}
}
