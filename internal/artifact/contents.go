package artifact

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// Contents is the Listing of what an archive brought. Its lines are made as they are written: those of a large tree would
// take more memory than all that unpacks it.
type Contents struct {
	nodes []*node // in the order of their lines
	skips []string
}

// contents is what the stage has written.
func (s *stage) contents() Contents {
	slices.SortFunc(s.order, byLine) // nearly so already
	return Contents{s.order, s.skips}
}

// Digest is the digest of the Listing.
func (c Contents) Digest() string {
	sum := sha256.New()
	_, _ = c.WriteTo(sum)
	return digestName + hex.EncodeToString(sum.Sum(nil))
}

// WriteTo writes the lines, each with the newline that ends it.
func (c Contents) WriteTo(w io.Writer) (n int64, err error) {
	b := make([]byte, 0, 64<<10)
	for i, node := range c.nodes {
		b = appendLine(b, node, c.skips)
		if len(b) > 60<<10 || i == len(c.nodes)-1 {
			k, err := w.Write(b)
			n += int64(k)
			if err != nil {
				return n, err
			}
			b = b[:0]
		}
	}
	return n, nil
}

// byLine orders nodes as the lines that begin with their names, quoted.
func byLine(x, y *node) int {
	a, b := x.name, y.name
	if x.odd || y.odd {
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

// appendLine appends the node's line with its newline, or nothing for a directory above a shared path.
func appendLine(b []byte, n *node, skip []string) []byte {
	kind, mode := byte('f'), octal(n.mode)
	switch n.mode.Type() {
	case 0:
	case fs.ModeDir:
		if slices.ContainsFunc(skip, func(s string) bool { return within(s, n.name) }) {
			return b
		}
		kind = 'd'
	case fs.ModeSymlink:
		kind, mode = 'l', 0
	default:
		kind = '?'
	}
	if n.odd {
		b = strconv.AppendQuote(b, n.name)
	} else {
		b = append(append(append(b, '"'), n.name...), '"')
	}
	b = append(b, ' ', kind, ' ', byte('0'+mode>>9&7), byte('0'+mode>>6&7), byte('0'+mode>>3&7), byte('0'+mode&7), ' ')
	if n.unread || kind == 'd' {
		return append(b, '-', '\n')
	}
	return append(hex.AppendEncode(b, n.sum[:]), '\n')
}
