package parts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The Debian tree from which droplets and container images are made: Debian 12 with systemd, polkit and the few
// programs that tests want, this machine's node and npm, and its CA bundle.
const (
	suite    = "bookworm"
	mirror   = "http://deb.debian.org/debian"
	packages = "systemd,systemd-sysv,libpam-systemd,dbus,polkitd,ca-certificates,procps,iproute2,curl,git,zstd"
	caBundle = "/etc/ssl/certs/ca-certificates.crt" // Debian's path, in the tree and on the machine
)

// tree returns the directory of the Debian tree, made on first use (a minute or two) and then kept. It is shared:
// nobody writes into it.
func tree(t testing.TB) string {
	t.Helper()
	needRoot(t, "a Debian tree")
	need(t, "debootstrap", "debootstrap", "tar", "tar")
	node, npm := machineNode(t)
	version, err := exec.Command(node, "--version").Output()
	if err != nil {
		Skip(t, fmt.Sprintf("a working node: %v", err))
	}
	recipe := strings.Join([]string{suite, mirror, packages, string(version)}, "\n")
	dir := filepath.Join(cacheDir(t), "tree-"+hash(t, recipe, caBundle))
	defer lock(t, "tree")()
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	part := dir + ".part"
	if err := removeTree(part); err != nil {
		t.Fatal(err)
	}
	t.Logf("building the Debian tree")
	debootstrap, _ := lookPath("debootstrap")
	cmd := exec.Command(debootstrap, "--variant=minbase", "--include="+packages, suite, part, mirror)
	if out, err := cmd.CombinedOutput(); err != nil {
		_ = removeTree(part)
		Skip(t, fmt.Sprintf("a Debian tree: debootstrap: %v\n%s", err, tail(out)))
	}
	modules := filepath.Join(part, "usr/lib/node_modules")
	if err := os.MkdirAll(modules, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, exec.Command("cp", node, filepath.Join(part, "usr/bin/node")))
	run(t, exec.Command("cp", "-a", npm, filepath.Join(modules, "npm")))
	run(t, exec.Command("cp", caBundle, filepath.Join(part, caBundle)))
	run(t, exec.Command("ln", "-s", "../lib/node_modules/npm/bin/npm-cli.js", filepath.Join(part, "usr/bin/npm")))
	run(t, exec.Command("ln", "-s", "../lib/node_modules/npm/bin/npx-cli.js", filepath.Join(part, "usr/bin/npx")))
	// Every droplet makes a machine id of its own at boot.
	run(t, exec.Command("truncate", "--size=0", filepath.Join(part, "etc/machine-id")))
	run(t, exec.Command("chroot", part, "sh", "-ec", "apt-get clean; rm -rf /var/lib/apt/lists/*; npm --version"))
	if err := os.Rename(part, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// machineNode returns the node binary of this machine and the directory of its npm.
func machineNode(t testing.TB) (node, npm string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err == nil {
		node, err = filepath.EvalSymlinks(node)
	}
	if err != nil {
		Skip(t, "node (nodejs)")
	}
	cli, err := exec.LookPath("npm")
	if err == nil {
		cli, err = filepath.EvalSymlinks(cli) // …/npm/bin/npm-cli.js
	}
	if err != nil || filepath.Base(cli) != "npm-cli.js" {
		Skip(t, "npm, as a link to its npm-cli.js")
	}
	return node, filepath.Dir(filepath.Dir(cli))
}
