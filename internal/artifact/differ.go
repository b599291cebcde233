package artifact

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// ReadListing is a listing as WriteTo wrote it. One that does not have the digest is an error that wraps
// release.ErrVerify: the digest is all that there is to tell what was written from what was made of it.
func ReadListing(data []byte, digest string) (Listing, error) {
	l := Listing(slices.Collect(func(yield func(string) bool) {
		for line := range strings.Lines(string(data)) {
			if !yield(strings.TrimSuffix(line, "\n")) {
				return
			}
		}
	}))
	if got := l.Digest(); got != digest {
		return nil, fmt.Errorf("read listing: %w: its digest is %s, want %s", release.ErrVerify, got, digest)
	}
	return l, nil
}

// Differences names what is not the same in the tree now as it was, sorted by path.
func Differences(was, now Listing) []deployment.Difference {
	type sides struct{ was, now string } // what follows the path in its line, "" where it has none
	differ := map[string]sides{}
	only := func(line string, note func(*sides, string)) {
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return
		}
		s := differ[quoted]
		note(&s, line[len(quoted):])
		differ[quoted] = s
	}
	for len(was) > 0 || len(now) > 0 { // both are sorted
		switch {
		case len(now) == 0 || len(was) > 0 && was[0] < now[0]:
			only(was[0], func(s *sides, rest string) { s.was = rest })
			was = was[1:]
		case len(was) == 0 || now[0] < was[0]:
			only(now[0], func(s *sides, rest string) { s.now = rest })
			now = now[1:]
		default:
			was, now = was[1:], now[1:]
		}
	}
	out := make([]deployment.Difference, 0, len(differ))
	for quoted, s := range differ {
		p, err := strconv.Unquote(quoted)
		if err != nil {
			p = quoted
		}
		d := deployment.Difference{Path: p, What: deployment.Changed}
		switch {
		case s.was == "":
			d.What = deployment.Added
		case s.now == "":
			d.What = deployment.Missing
		case sameBut(s.was, s.now, 2):
			d.What = deployment.Mode
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b deployment.Difference) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

// sameBut reports whether two lines' rests, " <type> <mode> <sum>", are the same but for one field.
func sameBut(a, b string, field int) bool {
	x, y := strings.Split(a, " "), strings.Split(b, " ")
	if len(x) != len(y) || field >= len(x) {
		return false
	}
	x[field], y[field] = "", ""
	return slices.Equal(x, y)
}
