package parts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Promtool returns the path of Prometheus' promtool, out of Debian's package, which is taken apart and not installed: it
// would start a server. Where it cannot be had the test is skipped.
func Promtool(t testing.TB) string {
	t.Helper()
	if path, err := lookPath("promtool"); err == nil {
		return path
	}
	need(t, "dpkg-deb", "dpkg", "apt-get", "apt")
	path := filepath.Join(cacheDir(t), "promtool")
	defer lock(t, "promtool")()
	if _, err := os.Stat(path); err == nil {
		return path
	}
	part := path + ".part"
	if err := os.RemoveAll(part); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(part, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(part)
	// Without lists of packages there is nothing to download; making them is root's.
	get := func() ([]byte, error) {
		cmd := exec.Command("apt-get", "download", "prometheus")
		cmd.Dir = part
		return cmd.CombinedOutput()
	}
	out, err := get()
	if err != nil && os.Getuid() == 0 {
		if out, err := exec.Command("apt-get", "update").CombinedOutput(); err != nil {
			Skip(t, fmt.Sprintf("promtool: apt-get update: %v\n%s", err, tail(out)))
		}
		out, err = get()
	}
	if err != nil {
		Skip(t, fmt.Sprintf("promtool: apt-get download prometheus: %v\n%s", err, tail(out)))
	}
	packages, err := filepath.Glob(filepath.Join(part, "*.deb"))
	if err != nil || len(packages) != 1 {
		t.Fatalf("apt-get download prometheus: got %q, %v", packages, err)
	}
	run(t, exec.Command("dpkg-deb", "--extract", packages[0], filepath.Join(part, "tree")))
	if err := os.Rename(filepath.Join(part, "tree/usr/bin/promtool"), path); err != nil {
		t.Fatal(err)
	}
	return path
}
