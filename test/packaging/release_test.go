package packaging

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var architectures = []string{"amd64", "arm64"}

// Another checkout of the same commit, elsewhere, in another time zone, with tags and leftovers, gives the same bytes.
func TestReleaseIsReproducible(t *testing.T) {
	first := theRelease(t)
	source, second := checkout(t), filepath.Join(t.TempDir(), "out")
	run(t, nil, "git", "-C", source, "tag", "v1.7.0")
	write(t, filepath.Join(source, "dist/left"), []byte("ignored\n"), 0o600)
	makeRelease(t, source, second, "TZ=Pacific/Auckland", "LC_ALL=C.UTF-8", "GOFLAGS=-tags=other", "GOAMD64=v3", "SOURCE_DATE_EPOCH=1")

	want := []string{"SHA256SUMS", "image/amd64/towline-action", "image/arm64/towline-action"}
	for _, arch := range architectures {
		want = append(want, fmt.Sprintf("towline_%s_%s.deb", version, arch), fmt.Sprintf("towline_%s_linux_%s.tar.gz", version, arch))
	}
	want = append(want, "towline_sbom.cdx.json")
	slices.Sort(want)
	if got := files(t, second); !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for _, name := range want {
		if read(t, filepath.Join(first, name)) != read(t, filepath.Join(second, name)) {
			t.Errorf("%s: got other bytes the second time", name)
		}
	}
}

func TestReleaseRefuses(t *testing.T) {
	source := checkout(t)
	script := filepath.Join(source, "packaging/release")
	release := func(version string) error {
		_, err := try(t, nil, script, version, filepath.Join(t.TempDir(), "out"))
		return err
	}
	for _, bad := range []string{version, "v1.2", "v1.2.3-rc1", "v01.2.3", "v1.2.3\nv1.2.3"} {
		refused(t, bad, release(bad), "want vX.Y.Z")
	}
	refused(t, "another version", release("v99.0.0"), `internal/release/doc.go says "`+version+`"`)

	_, err := try(t, nil, script, "v"+version, source)
	refused(t, "a directory with files", err, "is not empty")

	write(t, filepath.Join(source, "new.go"), []byte("package new\n"), 0o644)
	refused(t, "a new file", release("v"+version), "not committed")

	changelog := strings.ReplaceAll(read(t, filepath.Join(source, "CHANGELOG.md")), "## "+version, "## 99.0.0")
	write(t, filepath.Join(source, "CHANGELOG.md"), []byte(changelog), 0o644)
	refused(t, "no section", release("v"+version), `CHANGELOG.md has no section "## `+version+`"`)
}

func TestReleaseNotes(t *testing.T) {
	got := run(t, nil, filepath.Join(checkout(t), "packaging/release"), "--notes", "v"+version)
	if want := "- The first line.\n\n- The last line.\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSums(t *testing.T) {
	dir := theRelease(t)
	sums := map[string]string{}
	for line := range strings.Lines(read(t, filepath.Join(dir, "SHA256SUMS"))) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		sums[name] = sum
	}
	for _, name := range files(t, dir) {
		if name == "SHA256SUMS" || strings.HasPrefix(name, "image/") {
			continue
		}
		if got, want := sums[name], digest(t, filepath.Join(dir, name)); got != want {
			t.Errorf("SHA256SUMS: %s: got %q, want %q", name, got, want)
		}
		delete(sums, name)
	}
	if len(sums) > 0 {
		t.Errorf("SHA256SUMS: got %q, which are no files", slices.Sorted(maps.Keys(sums)))
	}
}

func digest(t *testing.T, path string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(read(t, path)))
	return hex.EncodeToString(sum[:])
}

// unpack returns the directory of an architecture's unpacked tarball.
func unpack(t *testing.T, arch string) string {
	t.Helper()
	dir, name := t.TempDir(), fmt.Sprintf("towline_%s_linux_%s", version, arch)
	run(t, nil, "tar", "--extract", "--gzip", "--file", filepath.Join(theRelease(t), name+".tar.gz"), "--directory", dir)
	if entries, _ := filepath.Glob(dir + "/*"); len(entries) != 1 || filepath.Base(entries[0]) != name {
		t.Fatalf("%s.tar.gz: got %q, want all of it in one directory %s", name, entries, name)
	}
	return filepath.Join(dir, name)
}

func TestTarballs(t *testing.T) {
	for _, arch := range architectures {
		dir := unpack(t, arch)
		for _, name := range []string{"towline", "towline-action", "towline-agent"} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("%s/%s: got %v %v, want mode 0755", arch, name, info, err)
			}
			about := run(t, nil, "go", "version", "-m", filepath.Join(dir, name))
			wanted := []string{"CGO_ENABLED=0", "-trimpath=true", "GOARCH=" + arch, "vcs.modified=false"}
			if name == "towline-agent" {
				wanted = append(wanted, "-tags=nethttpomithttp2") // of packaging/agent-flags
			}
			for _, want := range wanted {
				if !strings.Contains(about, "\tbuild\t"+want+"\n") {
					t.Errorf("%s/%s: got\n%s\nwant a line %s", arch, name, about, want)
				}
			}
		}
		if digest(t, filepath.Join(dir, "towline-action")) != digest(t, filepath.Join(theRelease(t), "image", arch, "towline-action")) {
			t.Errorf("image/%s: got another program than that of the tarball", arch)
		}
		for _, name := range []string{
			"LICENSE", "README.md", "CHANGELOG.md", "towline-agent.service", "towline-agent.socket", "towline.sysusers", "towline.tmpfiles",
			"agent.yaml.example", "share/man/man1/towline.1.gz", "share/man/man8/towline-agent.8.gz", "share/man/man5/agent.yaml.5.gz",
			"share/bash-completion/completions/towline", "share/zsh/site-functions/_towline", "share/fish/vendor_completions.d/towline.fish",
		} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Errorf("%s: %v", arch, err)
			}
		}
		// Of every module that is linked into a program, the licence.
		licenses := read(t, filepath.Join(dir, "LICENSES"))
		about := run(t, nil, "go", "version", "-m", filepath.Join(dir, "towline"), filepath.Join(dir, "towline-agent"), filepath.Join(dir, "towline-action"))
		modules := regexp.MustCompile(`(?m)^\tdep\t(\S+)\t(\S+)`).FindAllStringSubmatch(about, -1)
		if len(modules) < 20 || !strings.Contains(licenses, "==== Go go") {
			t.Errorf("%s: got %d modules, and in LICENSES\n%.400s", arch, len(modules), licenses)
		}
		for _, m := range modules {
			if !strings.Contains(licenses, "\n==== "+m[1]+" "+m[2]+": LICENSE") {
				t.Errorf("%s: LICENSES: got nothing of %s %s", arch, m[1], m[2])
			}
		}
	}
}

// The bill of materials has every program with its digest, and below each exactly what was linked into it.
func TestSBOM(t *testing.T) {
	type component struct {
		Ref     string `json:"bom-ref"`
		Type    string
		Name    string
		Version string
		Purl    string
		Hashes  []struct{ Alg, Content string }
	}
	var bom struct {
		BOMFormat, SpecVersion, SerialNumber string
		Metadata                             struct{ Component component }
		Components                           []component
		Dependencies                         []struct {
			Ref       string
			DependsOn []string
		}
	}
	if err := json.Unmarshal([]byte(read(t, filepath.Join(theRelease(t), "towline_sbom.cdx.json"))), &bom); err != nil {
		t.Fatal(err)
	}
	// What actions/attest looks for.
	if bom.BOMFormat != "CycloneDX" || bom.SpecVersion != "1.6" || bom.Metadata.Component.Version != version {
		t.Errorf("got %s %s of %+v", bom.BOMFormat, bom.SpecVersion, bom.Metadata.Component)
	}
	uuid := regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$`)
	if !uuid.MatchString(bom.SerialNumber) {
		t.Errorf("serial number: got %q, want %v", bom.SerialNumber, uuid)
	}
	byRef, bySum := map[string]component{}, map[string]component{}
	for _, c := range bom.Components {
		if _, ok := byRef[c.Ref]; ok {
			t.Errorf("got %s twice", c.Ref)
		}
		byRef[c.Ref] = c
		for _, h := range c.Hashes {
			bySum[h.Content] = c
		}
	}
	needs := map[string][]string{}
	for _, d := range bom.Dependencies {
		needs[d.Ref] = d.DependsOn
	}
	sums := read(t, root+"/go.sum")
	for _, arch := range architectures {
		dir := unpack(t, arch)
		for _, name := range []string{"towline", "towline-action", "towline-agent"} {
			program := bySum[digest(t, filepath.Join(dir, name))]
			if program.Name != name || !strings.Contains(program.Ref, arch) || !slices.Contains(needs[bom.Metadata.Component.Ref], program.Ref) {
				t.Errorf("%s/%s: got %+v for its digest", arch, name, program)
				continue
			}
			var want, got []string
			for line := range strings.Lines(run(t, nil, "go", "version", "-m", filepath.Join(dir, name))) {
				if f := strings.Split(strings.TrimSpace(line), "\t"); f[0] == "dep" {
					want = append(want, f[1]+" "+f[2])
					if !strings.Contains(sums, f[1]+" "+f[2]+" "+f[3]+"\n") {
						t.Errorf("%s/%s: %s %s is linked, and not what go.sum has", arch, name, f[1], f[2])
					}
				}
			}
			for _, ref := range needs[program.Ref] {
				if c, ok := byRef[ref]; !ok {
					t.Errorf("%s/%s: needs %s, which is no component", arch, name, ref)
				} else if c.Name != "std" {
					got = append(got, c.Name+" "+c.Version)
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) || len(want) < 5 {
				t.Errorf("%s/%s: got modules\n%q, want\n%q", arch, name, got, want)
			}
		}
	}
}

func TestDebs(t *testing.T) {
	programs(t, "dpkg-deb")
	for _, arch := range architectures {
		deb := filepath.Join(theRelease(t), fmt.Sprintf("towline_%s_%s.deb", version, arch))
		for field, want := range map[string]string{
			"Package": "towline", "Version": version, "Architecture": arch, "Section": "admin", "Priority": "optional",
			"Depends": "systemd, polkitd | policykit-1, ca-certificates", "Homepage": "https://github.com/towline/towline",
		} {
			if got := strings.TrimSpace(run(t, nil, "dpkg-deb", "--field", deb, field)); got != want {
				t.Errorf("%s: %s: got %q, want %q", arch, field, got, want)
			}
		}
		if got, want := run(t, nil, "dpkg-deb", "--info", deb, "conffiles"), "/etc/towline/agent.yaml.example\n"; got != want {
			t.Errorf("%s: conffiles: got %q, want %q", arch, got, want)
		}

		dir := t.TempDir()
		run(t, nil, "dpkg-deb", "--extract", deb, dir)
		same := map[string]string{ // what it has that others have too
			"etc/towline/agent.yaml.example":               root + "/packaging/agent.yaml.example",
			"usr/bin/towline":                              filepath.Join(unpack(t, arch), "towline"),
			"usr/bin/towline-agent":                        filepath.Join(unpack(t, arch), "towline-agent"),
			"usr/lib/systemd/system/towline-agent.service": root + "/packaging/towline-agent.service",
			"usr/lib/systemd/system/towline-agent.socket":  root + "/packaging/towline-agent.socket",
			"usr/lib/sysusers.d/towline.conf":              root + "/packaging/towline.sysusers",
			"usr/lib/tmpfiles.d/towline.conf":              root + "/packaging/towline.tmpfiles",
			"usr/share/doc/towline/copyright":              root + "/packaging/debian/copyright",
			"usr/share/lintian/overrides/towline":          root + "/packaging/debian/lintian-overrides",
		}
		share := filepath.Join(unpack(t, arch), "share")
		for _, name := range files(t, share) { // manual pages and completions
			same["usr/share/"+strings.Replace(name, "zsh/site-functions/", "zsh/vendor-completions/", 1)] = filepath.Join(share, name)
		}
		if len(same) < 30 {
			t.Errorf("%s: got %d files, want manual pages and completions too", arch, len(same))
		}
		want := append(slices.Collect(maps.Keys(same)), "usr/share/doc/towline/changelog.gz", "usr/share/doc/towline/licenses-of-modules.gz")
		slices.Sort(want)
		if got := files(t, dir); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", arch, got, want)
		}
		for name, other := range same {
			mode := os.FileMode(0o644)
			if strings.HasPrefix(name, "usr/bin/") {
				mode = 0o755
			}
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: %s: got %v %v, want mode %v", arch, name, info, err, mode)
			} else if read(t, filepath.Join(dir, name)) != read(t, other) {
				t.Errorf("%s: %s: got other bytes than %s", arch, name, other)
			}
		}
		wantLog := "towline (" + version + ") stable; urgency=medium\n\n  * The first line.\n  * The last line.\n\n" +
			" -- The Towline authors <towline@users.noreply.github.com>  Fri, 20 Nov 2026 10:11:12 +0000\n"
		if got := run(t, nil, "gzip", "-dc", filepath.Join(dir, "usr/share/doc/towline/changelog.gz")); got != wantLog {
			t.Errorf("%s: changelog: got\n%s\nwant\n%s", arch, got, wantLog)
		}
		if page := run(t, nil, "gzip", "-dc", filepath.Join(dir, "usr/share/man/man1/towline-status.1.gz")); !strings.HasPrefix(page,
			`.TH TOWLINE\-STATUS 1 "2026-11-20" "towline `+version+`" "Towline"`) {
			t.Errorf("%s: towline-status(1): got %.100q, want the commit's date and the version", arch, page)
		}
		for line := range strings.Lines(run(t, nil, "dpkg-deb", "--contents", deb)) {
			if !strings.Contains(line, " root/root ") {
				t.Errorf("%s: got %q, want all of it to be root's", arch, line)
			}
		}
	}
}
