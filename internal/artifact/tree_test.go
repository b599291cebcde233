package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// The lines are the contract: what was kept by one agent is read by the next.
func TestListingIsItsDigest(t *testing.T) {
	root, tree, err := unpackPlain(t, tarOf(t, dir("b"), reg("b/x", "hi"), link("b/l", "x"), reg("a b", ""), reg("s/t", "x")),
		UnpackOptions{Skip: []string{"s/t"}})
	must(t, err)
	sum := func(s string) string { d := sha256.Sum256([]byte(s)); return hex.EncodeToString(d[:]) }
	want := Listing{
		`"a b" f 0644 ` + sum(""), `"b" d 0755 -`, `"b/l" l 0000 ` + sum("x"), `"b/x" f 0644 ` + sum("hi"),
	}
	if got := lines(t, tree.Listing); !slices.Equal(got, want) {
		t.Errorf("listing: got %q, want %q", got, want)
	}
	var text bytes.Buffer
	_, err = tree.Listing.WriteTo(&text)
	must(t, err)
	if got, want := "t1:"+sum(text.String()), tree.Digest; got != want {
		t.Errorf("the listing's SHA-256 is %s, want the digest %s", got, want)
	}
	for _, read := range []func() (Listing, error){
		func() (Listing, error) { return ListTree(t.Context(), root, []string{"s/t"}) },
		func() (Listing, error) { return ReadListing(text.Bytes(), tree.Digest) },
	} {
		if got, err := read(); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	for name, data := range map[string][]byte{"cut": text.Bytes()[:text.Len()-2], "empty": nil, "longer": slices.Concat(text.Bytes(), []byte("\n"))} {
		if _, err := ReadListing(data, tree.Digest); !errors.Is(err, release.ErrVerify) {
			t.Errorf("%s: got %v, want ErrVerify", name, err)
		}
	}
}

// lines are those of an unpacked tree.
func lines(t *testing.T, c Contents) Listing {
	t.Helper()
	var text bytes.Buffer
	_, err := c.WriteTo(&text)
	must(t, err)
	l, err := ReadListing(text.Bytes(), c.Digest())
	must(t, err)
	return l
}

// Paths stand in the order of their lines, whatever quoting makes of them.
func TestContentsAreInTheOrderOfLines(t *testing.T) {
	name := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", " ", "!", "#", "~", "\"", "/", "é", "\u2028"}), 1, 5)
	rapid.Check(t, func(t *rapid.T) {
		a, b := strings.Join(name.Draw(t, "a"), ""), strings.Join(name.Draw(t, "b"), "")
		if got, want := byLine(&node{name: a, odd: !bare(a)}, &node{name: b, odd: !bare(b)}), strings.Compare(strconv.Quote(a), strconv.Quote(b)); got != want {
			t.Errorf("%q and %q: got %d, want %d", a, b, got, want)
		}
	})
}

func TestDifferencesNamePaths(t *testing.T) {
	root, tree, err := unpackPlain(t, tarOf(t, reg("a", "x"), reg("b", "x"), reg("c", "x"), dir("d"), reg("d/e", "x"), link("l", "a"), reg("z z\u00e9", "x"),
		reg("p", "x"), reg("u", "x")), UnpackOptions{})
	must(t, err)
	was := lines(t, tree.Listing)
	if got, err := ListTree(t.Context(), root, nil); err != nil || len(Differences(was, got)) != 0 {
		t.Fatalf("untouched: got %v, %v", Differences(was, got), err)
	}
	at := func(p string) string { return filepath.Join(root.Name(), p) }
	must(t, os.WriteFile(at("a"), []byte("y"), 0o644))
	must(t, os.Chmod(at("b"), 0o755))
	must(t, os.Chmod(at("c"), 0o644|os.ModeSetuid))
	must(t, os.RemoveAll(at("d")))
	must(t, os.Symlink("a", at("d")))
	must(t, errors.Join(os.Remove(at("l")), os.Symlink("b", at("l"))))
	must(t, os.Remove(at("z z\u00e9")))
	must(t, os.MkdirAll(at("n/m"), 0o755))
	must(t, errors.Join(os.Remove(at("p")), syscall.Mkfifo(at("p"), 0o644)))
	// Another name with the same content and mode is an addition, and touching changes nothing.
	must(t, os.Link(at("u"), at("v")))
	got, err := ListTree(t.Context(), root, nil)
	must(t, err)
	want := []deployment.Difference{
		{Path: "a", What: "changed"}, {Path: "b", What: "mode"}, {Path: "c", What: "mode"}, {Path: "d", What: "changed"},
		{Path: "d/e", What: "missing"}, {Path: "l", What: "changed"}, {Path: "n", What: "added"}, {Path: "n/m", What: "added"},
		{Path: "p", What: "changed"}, {Path: "v", What: "added"}, {Path: "z z\u00e9", What: "missing"},
	}
	if differ := Differences(was, got); !slices.Equal(differ, want) {
		t.Errorf("got %v, want %v", differ, want)
	}
	if _, err := DigestTree(root, nil); !errors.Is(err, release.ErrVerify) {
		t.Errorf("digest of a tree with a pipe: got %v, want ErrVerify", err)
	}
}

// A name that breaks lines or terminals is one line of the listing and comes back as it was.
func TestDifferencesOfStrangeNames(t *testing.T) {
	root := stageDir(t)
	for _, name := range []string{"a\nb", `q"uote`, "bad\xff", "x f 0644 -"} {
		must(t, root.WriteFile(name, nil, 0o644))
	}
	got, err := ListTree(t.Context(), root, nil)
	must(t, err)
	if len(got) != 4 {
		t.Fatalf("got %q, want four lines", got)
	}
	var names []string
	for _, d := range Differences(nil, got) {
		names = append(names, d.Path)
	}
	if want := []string{"a\nb", "bad\xff", `q"uote`, "x f 0644 -"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

func TestListTreeEndsWithItsContext(t *testing.T) {
	root, _, err := unpackPlain(t, tarOf(t, reg("a", "x")), UnpackOptions{})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ListTree(ctx, root, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
