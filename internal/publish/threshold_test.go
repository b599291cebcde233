package publish

import (
	"errors"
	"strings"
	"testing"

	"github.com/towline/towline/internal/release"
)

// With two keys that sign, for servers that ask for both, a thief of one of them and of the bucket must not get the other
// one's signature by leaving something for us to promote.
func TestOneKeyOfTwoIsNotSignedForByTheOther(t *testing.T) {
	s := newSite(t)
	other, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	both := s.with("signing-key", s.key.Reveal()+"\n"+other.Reveal())
	good := both.must(commit(1)).Artifact
	both.must(commit(2))
	both.must(commit(3))

	// A release object of a known commit with other bytes, newer than the true one.
	evil := good
	evil.SHA256 = strings.Repeat("e", 64)
	evil.Key = release.ArtifactKey("web", commit(1), evil.SHA256, evil.Format)
	m, err := release.SignManifest(release.Manifest{Type: release.ManifestType, App: "web", Artifact: evil,
		Release: release.Release{Hash: commit(1), Date: "2026-11-23T13:06:43Z"}, Created: "2099-11-23T13:06:43Z"}, s.key)
	if err != nil {
		t.Fatal(err)
	}
	s.bucket.place(release.ManifestKey("web", commit(1), evil.SHA256), m)
	// A release that nobody made, in a pointer that nobody wrote.
	top := s.pointer()
	file := s.pointerFile(4, top.Digest(), commit(9))
	s.bucket.place(release.HistoryKey("web", "production", 4), file)
	stolen := s.verify(file).Pointer()
	m, err = release.SignManifest(release.Manifest{Type: release.ManifestType, App: "web", Artifact: stolen.Artifact, Release: stolen.Release,
		Created: stolen.Created}, s.key)
	if err != nil {
		t.Fatal(err)
	}
	s.bucket.place(release.ManifestKey("web", commit(9), stolen.Artifact.SHA256), m)

	for _, command := range []string{"promote", "rollback"} {
		r := both.with("command", command, "version", commit(1)).must("")
		if p := s.pointer().Pointer(); p.Artifact.SHA256 != good.SHA256 || r.Version != commit(1) {
			t.Errorf("%s: got artifact %s signed by both, want %s", command, p.Artifact.SHA256, good.SHA256)
		}
		_, err = both.with("command", command, "version", commit(9)).run("")
		if !errors.Is(err, release.ErrVerify) || !strings.Contains(err.Error(), "signed by 1 of the trusted keys, want 2") {
			t.Errorf("%s of what one key signed: got %v, want a refusal that counts the keys", command, err)
		}
	}
}
