package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/release"
)

// made is an artifact with its index.
type made struct {
	data []byte
	a    release.Artifact
	x    Index
}

func makeArtifact(t testing.TB, files map[string]string) made {
	t.Helper()
	data, a := pack(t, PackOptions{Dir: writeTree(t, files)})
	return made{data, a, readIndex(t, data, a)}
}

// assemble makes an artifact of frames as a test cuts them, not as the packer does.
func assemble(t testing.TB, dir string, frames []frame) made {
	t.Helper()
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	w := testWorker(t)
	w.dirs = dirs{root: root}
	defer w.dirs.close()
	var m made
	var list []Frame
	var unpacked, entries int64
	for _, f := range frames {
		j := packing{frame: f}
		must(t, w.pack(&j))
		j.made.Offset = int64(len(m.data))
		m.data, list = append(m.data, j.data...), append(list, j.made)
		if w.frame.from == 0 {
			entries += int64(len(w.frame.entries))
			for _, e := range w.frame.entries {
				unpacked += e.Size
			}
		}
	}
	return indexed(t, m.data, list, entries, unpacked)
}

// testWorker makes frames; it is slow to make.
var testWorker = func() func(testing.TB) *worker {
	var w *worker
	return func(t testing.TB) *worker {
		if w == nil {
			var err error
			w, err = (&packer{}).newWorker(cutLimit)
			must(t, err)
		}
		return w
	}
}()

// indexed is the artifact with these frames, and an index that says what it is told.
func indexed(t testing.TB, data []byte, list []Frame, entries, unpacked int64) made {
	t.Helper()
	m, err := withIndex(data, list, entries, unpacked)
	must(t, err)
	return m
}

func withIndex(data []byte, list []Frame, entries, unpacked int64) (made, error) {
	all := appendIndex(bytes.Clone(data), list)
	sum := sha256.Sum256(all)
	a := release.Artifact{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(all)), Format: release.FormatZstd, Entries: entries, UnpackedSize: unpacked}
	a.Index = indexOf(all, int64(len(data)))
	x, err := ReadIndex(all[len(data):], a)
	return made{all, a, x}, err
}

// bring brings the artifact; what the test does not set is as an agent sets it.
func (m made) bring(t testing.TB, root *os.Root, o BringOptions) (Tree, error) {
	t.Helper()
	o.Want = m.a
	return Bring(t.Context(), root, m.x, opener(m.data), o)
}

// installed is the release unpacked from nothing.
func (m made) installed(t testing.TB, skip ...string) (Installed, Tree) {
	t.Helper()
	root := stageDir(t)
	tree, err := m.bring(t, root, BringOptions{UnpackOptions: UnpackOptions{Skip: skip}})
	must(t, err)
	return Installed{root, tree.Inventory}, tree
}

// checkTree demands that a tree is what it says, and what unpacking the artifact as a whole gives.
func checkTree(t testing.TB, m made, root *os.Root, tree Tree, skip ...string) {
	t.Helper()
	listing, err := ListTree(t.Context(), root, skip)
	must(t, err)
	if got, want := listing.Digest(), tree.Digest; got != want {
		t.Errorf("the tree's digest is %s, want %s", got, want)
	}
	whole, err := Unpack(t.Context(), stageDir(t), bytes.NewReader(m.data), UnpackOptions{Want: m.a, Skip: skip})
	must(t, err)
	if tree.Digest != whole.Digest || tree.Entries != whole.Entries || tree.Bytes != whole.Bytes {
		t.Errorf("brought %s, %d entries, %d bytes; as a whole %s, %d, %d", tree.Digest, tree.Entries, tree.Bytes, whole.Digest, whole.Entries, whole.Bytes)
	}
	if tree.Digest != tree.Inventory.Digest() {
		t.Errorf("the inventory's digest is %s, want %s", tree.Inventory.Digest(), tree.Digest)
	}
	var all, theirs bytes.Buffer
	_, err = tree.Listing.WriteTo(&all)
	must(t, err)
	_, err = whole.Listing.WriteTo(&theirs)
	must(t, err)
	if all.String() != theirs.String() {
		t.Errorf("listing differs:\n%s", cmp.Diff(theirs.String(), all.String()))
	}
}
