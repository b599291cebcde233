package deploy

import (
	"slices"
	"testing"

	"github.com/towline/towline/internal/deployment"
)

func TestPruneSaysWhatItKeepsAndWhy(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Keep = 4 })
	for i, hash := range []string{"aaaaaaa", "bbbbbbb", "ccccccc", "ddddddd"} {
		r.publish(uint64(i+1), hash)
		r.once(deployment.Deployed)
	}
	for _, test := range []struct {
		keep int
		want []string
	}{
		{0, []string{"kept     4-ddddddd: it is live", "kept     3-ccccccc: it is the one before",
			"kept     2-bbbbbbb: it is one of the newest 4 that were healthy", "kept     1-aaaaaaa: it is one of the newest 4 that were healthy"}},
		{3, []string{"kept     4-ddddddd: it is live", "kept     3-ccccccc: it is the one before",
			"kept     2-bbbbbbb: it is one of the newest 3 that were healthy", "removed  1-aaaaaaa"}},
		{1, []string{"kept     4-ddddddd: it is live", "kept     3-ccccccc: it is the one before", "removed  2-bbbbbbb"}},
	} {
		if got := r.do("prune", deployment.Command{Keep: test.keep}).Lines; !slices.Equal(got, test.want) {
			t.Errorf("keep %d: got %q, want %q", test.keep, got, test.want)
		}
	}
}
