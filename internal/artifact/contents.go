package artifact

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Contents is the Listing of what an archive brought. Its lines are made as they are written: those of a large tree would
// take more memory than all that unpacks it.
type Contents struct {
	nodes map[string]*node
	paths []string // in the order of their lines
	skips []string
}

// contents is what the stage has written.
func (s *stage) contents() Contents {
	c := Contents{nodes: s.nodes, paths: make([]string, 0, len(s.nodes)), skips: s.skips}
	for p := range s.nodes {
		c.paths = append(c.paths, p)
	}
	slices.SortFunc(c.paths, byLine)
	return c
}

// Digest is the digest of the Listing.
func (c Contents) Digest() string {
	sum := sha256.New()
	_, _ = c.WriteTo(sum)
	return "t1:" + hex.EncodeToString(sum.Sum(nil))
}

// WriteTo writes the lines, each with the newline that ends it.
func (c Contents) WriteTo(w io.Writer) (n int64, err error) {
	out := bufio.NewWriterSize(w, 32<<10)
	var line Listing
	for _, p := range c.paths {
		line = appendLine(line[:0], p, c.nodes[p], c.skips)
		k, err := line.WriteTo(out)
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, out.Flush()
}

// byLine orders paths as the lines that begin with them, quoted.
func byLine(a, b string) int {
	if !bare(a) || !bare(b) {
		return strings.Compare(strconv.Quote(a), strconv.Quote(b))
	}
	n := min(len(a), len(b))
	if c := strings.Compare(a[:n], b[:n]); c != 0 {
		return c
	}
	at := func(s string) byte { // the quote that ends it included
		if len(s) == n {
			return '"'
		}
		return s[n]
	}
	return cmp.Compare(at(a), at(b))
}

// bare reports whether quoting adds nothing to p but the quotes.
func bare(p string) bool {
	for i := range len(p) {
		if c := p[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
