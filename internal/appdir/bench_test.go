package appdir

import (
	"fmt"
	"path/filepath"
	"testing"
)

// benchDir has two releases, one of them with 2,000 files in 200 directories.
func benchDir(b *testing.B) (d *Dir, names [2]string) {
	b.Helper()
	d, err := Open(Options{Path: filepath.Join(b.TempDir(), "app")})
	must(b, err)
	b.Cleanup(func() { _ = d.Close() })
	names = [2]string{"1-aaaaaaaaaaaa", "2-bbbbbbbbbbbb"}
	for i, files := range []int{2000, 1} {
		stage, root, err := d.Stage()
		must(b, err)
		for k := range files {
			dir := fmt.Sprintf("node_modules/p%03d", k/10)
			must(b, root.MkdirAll(dir, 0o755))
			must(b, root.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d.js", k)), fmt.Appendf(nil, "exports.n = %d;\n", k), 0o644))
		}
		must(b, root.Close())
		_, err = d.Seal(stage, names[i], nil)
		must(b, err)
	}
	return d, names
}

// BenchmarkSwitch is what makes another release live, on the disk with all that was written before: the link is made, synced and
// renamed.
func BenchmarkSwitch(b *testing.B) {
	d, names := benchDir(b)
	for i := 0; b.Loop(); i++ {
		must(b, d.Switch(names[i%2]))
	}
}

// BenchmarkFingerprint is the metadata scrub: every entry of 2,000 files is looked at, none is read. BenchmarkListTree in
// internal/artifact reads as many.
func BenchmarkFingerprint(b *testing.B) {
	d, names := benchDir(b)
	want, err := d.Fingerprint(names[0])
	must(b, err)
	b.ReportAllocs()
	for b.Loop() {
		got, err := d.Fingerprint(names[0])
		if err != nil || got != want {
			b.Fatalf("got %s, %v, want %s", got, err, want)
		}
	}
}

// BenchmarkRecycle takes a release for a stage and gives it a new name, with nothing to be written: what a release costs that
// is brought forward, beside what changed.
func BenchmarkRecycle(b *testing.B) {
	d, names := benchDir(b)
	must(b, d.Switch(names[1]))
	for i := 0; b.Loop(); i++ {
		stage, root, err := d.Recycle(names[0])
		must(b, err)
		must(b, root.Close())
		names[0] = fmt.Sprintf("%d-aaaaaaaaaaaa", i+3)
		_, err = d.Seal(stage, names[0], nil)
		must(b, err)
	}
}
