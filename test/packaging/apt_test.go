package packaging

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// signingKey makes an OpenPGP key without passphrase, and returns the file of its private half.
func signingKey(t *testing.T) string {
	t.Helper()
	programs(t, "gpg", "gpgconf", "gpgv", "apt-ftparchive", "curl", "dpkg-deb")
	// Not below t.TempDir, whose path is too long for the agent's socket.
	home, err := os.MkdirTemp("", "gpg-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	gpg := []string{"gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}
	run(t, nil, append(gpg, "--quick-generate-key", "test <test@example.com>", "ed25519", "sign", "never")...)
	file := filepath.Join(t.TempDir(), "key.asc")
	run(t, nil, append(gpg, "--armor", "--output", file, "--export-secret-keys")...)
	run(t, nil, "gpgconf", "--homedir", home, "--kill", "all")
	return file
}

// debs returns the packages of this checkout's release.
func debs(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, arch := range architectures {
		out = append(out, filepath.Join(theRelease(t), fmt.Sprintf("towline_%s_%s.deb", version, arch)))
	}
	return out
}

// as makes a package of another version out of a package.
func as(t *testing.T, version, deb string) string {
	t.Helper()
	dir, name := t.TempDir(), filepath.Join(t.TempDir(), version+"-"+filepath.Base(deb))
	run(t, nil, "dpkg-deb", "--raw-extract", deb, dir)
	control := filepath.Join(dir, "DEBIAN/control")
	text := regexp.MustCompile(`(?m)^Version: .*$`).ReplaceAllString(read(t, control), "Version: "+version)
	write(t, control, []byte(text), 0o644)
	run(t, nil, "dpkg-deb", "--build", "-Znone", "--root-owner-group", dir, name)
	return name
}

// small makes packages with nothing but a version and a word in them.
func small(t *testing.T, version, word string) []string {
	t.Helper()
	var out []string
	for _, arch := range architectures {
		dir, name := t.TempDir(), filepath.Join(t.TempDir(), "any.deb")
		control := "Package: towline\nVersion: " + version + "\nArchitecture: " + arch + "\nMaintainer: a <a@example.com>\nDescription: " + word + "\n"
		write(t, filepath.Join(dir, "DEBIAN/control"), []byte(control), 0o644)
		run(t, nil, "dpkg-deb", "--build", "--root-owner-group", dir, name)
		out = append(out, name)
	}
	return out
}

// aptRepo runs packaging/apt-repo.
func aptRepo(t *testing.T, debs []string, args ...string) error {
	t.Helper()
	_, err := try(t, nil, append(append([]string{root + "/packaging/apt-repo"}, args...), debs...)...)
	return err
}

// checkRepository goes the way of apt: from the signature to each package.
func checkRepository(t *testing.T, dir, suite string, versions ...string) {
	t.Helper()
	keyring := filepath.Join(t.TempDir(), "key.gpg")
	run(t, nil, "gpg", "--batch", "--quiet", "--output", keyring, "--dearmor", filepath.Join(dir, "towline.asc"))
	dist := filepath.Join(dir, "dists", suite)
	release := run(t, nil, "gpgv", "--quiet", "--keyring", keyring, "--output", "-", filepath.Join(dist, "InRelease"))
	run(t, nil, "gpgv", "--quiet", "--keyring", keyring, filepath.Join(dist, "Release.gpg"), filepath.Join(dist, "Release"))
	if got := read(t, filepath.Join(dist, "Release")); strings.TrimSpace(got) != strings.TrimSpace(release) {
		t.Errorf("Release and InRelease differ: got\n%s, want\n%s", got, release)
	}
	for _, want := range []string{"Suite: " + suite, "Codename: " + suite, "Architectures: amd64 arm64", "Components: main", "Acquire-By-Hash: yes"} {
		if !strings.Contains(release, want+"\n") {
			t.Errorf("Release: got\n%s\nwant a line %q", release, want)
		}
	}
	listed := regexp.MustCompile(`(?m)^ ([0-9a-f]{64}) +([0-9]+) (\S+)$`).FindAllStringSubmatch(release, -1)
	if len(listed) != 6 {
		t.Errorf("Release: got %d indices, want 6:\n%s", len(listed), release)
	}
	for _, index := range listed {
		for _, path := range []string{index[3], filepath.Dir(index[3]) + "/by-hash/SHA256/" + index[1]} {
			if got := digest(t, filepath.Join(dist, path)); got != index[1] {
				t.Errorf("%s: got digest %s, want %s", path, got, index[1])
			}
		}
	}
	for _, arch := range architectures {
		got := map[string]bool{}
		for _, entry := range strings.Split(strings.TrimSpace(read(t, filepath.Join(dist, "main/binary-"+arch, "Packages"))), "\n\n") {
			if entry == "" {
				continue // an empty suite
			}
			fields := map[string]string{}
			for line := range strings.Lines(entry) {
				if name, value, ok := strings.Cut(line, ": "); ok && line[0] != ' ' {
					fields[name] = strings.TrimSpace(value)
				}
			}
			if sum := digest(t, filepath.Join(dir, fields["Filename"])); sum != fields["SHA256"] || fields["Architecture"] != arch {
				t.Errorf("%s: got digest %s, want %s", fields["Filename"], sum, fields["SHA256"])
			}
			got[fields["Version"]] = true
		}
		want := map[string]bool{}
		for _, v := range versions {
			want[v] = true
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %s: got versions %v, want %v", suite, arch, got, versions)
		}
	}
}

func TestAptRepository(t *testing.T) {
	key, other := signingKey(t), signingKey(t)
	dir, first := filepath.Join(t.TempDir(), "site"), small(t, version, "first")
	if err := aptRepo(t, first, dir, key); err != nil {
		t.Fatal(err)
	}
	checkRepository(t, dir, "stable", version)
	before := files(t, dir)

	second := small(t, "99.0.0", "second")
	if err := aptRepo(t, second, dir, key); err != nil {
		t.Fatal(err)
	}
	checkRepository(t, dir, "stable", version, "99.0.0")
	for _, name := range before { // who reads an older InRelease still finds what it names
		if !slices.Contains(files(t, dir), name) {
			t.Errorf("got no %s any more", name)
		}
	}

	// A version that is there does not change.
	refused(t, "other bytes of a version", aptRepo(t, small(t, version, "changed"), dir, key), "in the repository already, with other bytes")

	// From what is published, and signed by the same key.
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	copied := filepath.Join(t.TempDir(), "site")
	if err := aptRepo(t, small(t, "100.0.0", "third"), "--from", server.URL, copied, key); err != nil {
		t.Fatal(err)
	}
	checkRepository(t, copied, "stable", version, "99.0.0", "100.0.0")
	from := func(key string) error {
		return aptRepo(t, first, "--from", server.URL, filepath.Join(t.TempDir(), "site"), key)
	}
	refused(t, "another key", from(other), "not signed by the key")
	deb := filepath.Join(dir, "pool/main/t/towline/towline_99.0.0_arm64.deb")
	write(t, deb, []byte(read(t, deb)+"\n"), 0o644)
	refused(t, "a changed package", from(key), "not what the index names")
	if err := os.RemoveAll(filepath.Join(dir, "dists")); err != nil {
		t.Fatal(err)
	}
	refused(t, "nothing published", from(key), "404")

	public := filepath.Join(copied, "towline.asc")
	refused(t, "a public key", aptRepo(t, first, filepath.Join(t.TempDir(), "site"), public), "no private key")
}

// A candidate is in its own suite alone until the same file is added to stable; what is stable is in both.
func TestAptSuites(t *testing.T) {
	key := signingKey(t)
	dir, first, second := filepath.Join(t.TempDir(), "site"), small(t, "1.0.0", "first"), small(t, "1.1.0", "second")
	newest := func(want string) {
		t.Helper()
		script := read(t, filepath.Join(dir, "install.sh"))
		if got := strings.Join(regexp.MustCompile(`(?m)^(stable|candidate)=.*$`).FindAllString(script, -1), " "); got != want {
			t.Errorf("install.sh: got %q, want %q", got, want)
		}
	}
	if err := aptRepo(t, first, "--suite", "candidate", dir, key); err != nil {
		t.Fatal(err)
	}
	checkRepository(t, dir, "stable")
	checkRepository(t, dir, "candidate", "1.0.0")
	newest("stable= candidate=1.0.0")

	if err := aptRepo(t, first, dir, key); err != nil {
		t.Fatal(err)
	}
	if err := aptRepo(t, second, "--suite", "candidate", dir, key); err != nil {
		t.Fatal(err)
	}
	checkRepository(t, dir, "stable", "1.0.0")
	checkRepository(t, dir, "candidate", "1.0.0", "1.1.0")
	newest("stable=1.0.0 candidate=1.1.0")

	// Both come along from what is published; what is made stable has the bytes of the candidate.
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	copied := filepath.Join(t.TempDir(), "site")
	if err := aptRepo(t, second, "--from", server.URL, "--suite", "stable", copied, key); err != nil {
		t.Fatal(err)
	}
	checkRepository(t, copied, "stable", "1.0.0", "1.1.0")
	checkRepository(t, copied, "candidate", "1.0.0", "1.1.0")
	refused(t, "other bytes", aptRepo(t, small(t, "1.1.0", "other"), copied, key), "with other bytes")
	refused(t, "another suite", aptRepo(t, second, "--suite", "testing", copied, key), "packaging/apt-repo [--from URL]")

	// A suite cannot be shown in another's place.
	run(t, nil, "cp", dir+"/dists/candidate/InRelease", dir+"/dists/stable/InRelease")
	refused(t, "a suite in another's place", aptRepo(t, first, "--from", server.URL, filepath.Join(t.TempDir(), "site"), key), "that of another suite")
}

// While one key replaces the other, both sign and install.sh has both, so that servers with either go on.
func TestAptKeyRotation(t *testing.T) {
	old, next := signingKey(t), signingKey(t)
	both := filepath.Join(t.TempDir(), "both.asc")
	write(t, both, []byte(read(t, old)+read(t, next)), 0o600)
	dir := filepath.Join(t.TempDir(), "site")
	if err := aptRepo(t, small(t, "1.0.0", "any"), dir, old); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	copied := filepath.Join(t.TempDir(), "site")
	if err := aptRepo(t, small(t, "1.1.0", "any"), "--from", server.URL, copied, both); err != nil {
		t.Fatal(err)
	}
	checkRepository(t, copied, "stable", "1.0.0", "1.1.0")
	out := run(t, nil, "gpg", "--batch", "--show-keys", "--with-colons", filepath.Join(copied, "towline.asc"))
	if got := strings.Count(out, "\npub:") + strings.Count(out[:4], "pub:"); got != 2 {
		t.Errorf("towline.asc: got %d keys, want 2:\n%s", got, out)
	}
	ring := filepath.Join(t.TempDir(), "ring.gpg")
	run(t, nil, "gpg", "--batch", "--quiet", "--output", ring, "--dearmor", filepath.Join(copied, "towline.asc"))
	status := run(t, nil, "gpgv", "--quiet", "--status-fd", "1", "--keyring", ring, filepath.Join(copied, "dists/stable/InRelease"))
	if got := strings.Count(status, "[GNUPG:] VALIDSIG"); got != 2 {
		t.Errorf("InRelease: got %d signatures, want 2:\n%s", got, status)
	}
}
