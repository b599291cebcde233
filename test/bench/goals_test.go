package bench

import (
	"fmt"
	"slices"
)

// columns are the sides of the matrices.
var columns = []column{
	{side: "ours", head: "Towline"},
	{side: "gzip", head: "`tar czf`, S3 CLI, `tar xzf`", as: asB},
	{side: "zstd", head: "`tar \\| zstd -T0 -3` into the S3 CLI, that into `tar --zstd -x`", as: asB},
	{side: "hand", head: "`tar \\| zstd -T0 -3`, `tar --zstd -x`, no network", as: asB},
	{side: "rsync", head: "`rsync -az --link-dest` over ssh"},
	{side: "casync", head: "casync, over HTTP, `--seed`"},
}

// asB says that a whole archive costs the same whatever changed.
var asB = func() map[string]string {
	as := map[string]string{}
	for _, tree := range updates {
		for _, what := range []string{" publish", " up", " pull", " down", " all"} {
			as[tree+what] = "B" + what
		}
	}
	return as
}()

// lines are the rows of a plan's matrix.
func lines(p plan) (out []line) {
	one := func(key, what string) {
		out = append(out,
			line{what + ": publish", key + " publish", seconds},
			line{"bytes on the publisher's wire", key + " up", kilobytes},
			line{what + ": to the server, on its disk", key + " pull", seconds},
			line{"bytes on the server's wire", key + " down", kilobytes},
			line{"both", key + " all", seconds},
		)
	}
	if p.warm {
		one("A", "A, the server is empty")
		out = append(out, line{"memory, publisher", "A publisher", mebibytes}, line{"memory, server", "A server", mebibytes})
		one("fresh", "the same content from a fresh checkout")
		for _, tree := range p.trees {
			one(tree, tree+" after A")
		}
		out = append(out, line{"memory with B, publisher", "B publisher", mebibytes}, line{"memory with B, server", "B server", mebibytes})
	}
	if p.cold {
		out = append(out,
			line{"A, the server is empty, cold: to the server, on its disk", "A cold pull", seconds},
			line{"memory, server", "A cold server", mebibytes},
			line{"B after A, cold: to the server, on its disk", "B cold pull", seconds},
			line{"memory, server", "B cold server", mebibytes},
		)
	}
	return out
}

// goals are the rows that have one, or that Towline has alone.
func goals(t *table, r results, p plan) {
	ours := func(figure string) sample { return r.of("ours", figure) }
	add := func(rows ...row) {
		for _, one := range rows {
			if len(one.have) == 0 || (one.peer != "" && len(one.other) != len(one.have)) {
				continue // that side did not run
			}
			t.add(one)
		}
	}
	whole, hand := "`tar --zstd -x; sync -f` of the whole", "hand"
	if p.warm {
		add(
			row{what: "publish A, whole", have: ours("A publish"), format: seconds, peer: referenceName + ", streamed into the S3 CLI", other: r.of("zstd", "A publish"), goal: 2,
				promise: "publish the whole"},
			row{what: "the same", have: ours("A publish"), format: seconds, peer: recipeName + ", then the S3 CLI", other: r.of("gzip", "A publish"), goal: 0.25,
				promise: "publish the whole, beside the original recipe"},
			row{what: "archive of A", have: ours("A size"), format: megabytes, peer: referenceName, other: r.of("zstd", "A up"), goal: 1.08, promise: "size of the archive"},
			row{what: "publisher's peak memory", have: ours("A publisher"), format: mebibytes, goal: peakGoal, promise: "publisher's peak memory"},
			row{what: "fetch and unpack A, whole, `syncfs` included", have: ours("A pull"), format: seconds,
				peer: "S3 CLI into `tar --zstd -x; sync -f`", other: r.of("zstd", "A pull"), goal: 1, promise: "fetch and unpack the whole, `syncfs` included, warm"},
		)
		for i, tree := range updates {
			goal := []float64{0.005, 0.01, 0.07}[i]
			add(row{what: fmt.Sprintf("bytes on the server's wire for %s after A, all requests included, of the archive", tree),
				have: share(ours(tree+" down"), ours("A size")), format: percent, goal: goal, promise: promises[i]})
		}
		add(
			row{what: "the same content from a fresh checkout: bytes on the publisher's wire", have: ours("fresh up"), format: kilobytes,
				note: ": outcome `unchanged`, nothing restarted", goal: sameContentMost, promise: "the same content from a fresh checkout: bytes to the store"},
			row{what: "bring B, `syncfs` included, warm", have: ours("B pull"), format: seconds, peer: whole, other: r.of(hand, "A pull"), goal: 0.1,
				promise: "bring B, `syncfs` included, warm"},
			row{what: "bring B-big, `syncfs` included, warm", have: ours("B-big pull"), format: seconds, peer: whole, other: r.of(hand, "A pull")},
			row{what: "pointer to live with ping, B", have: ours("B live"), format: seconds, goal: 1, promise: "pointer to live with ping, B"},
			row{what: "pointer to live with ping, A to an empty server", have: ours("A live"), format: seconds},
			row{what: "rollback to the release before: the agent", have: ours("rollback"), format: seconds, goal: 0.05, promise: "rollback to the release before"},
			row{what: "rollback to the release before: the whole command", have: ours("rollback command"), format: seconds},
			row{what: "agent's peak memory, A", have: ours("A server"), format: mebibytes, goal: 64 << 20},
			row{what: "agent's peak memory, B", have: ours("B server"), format: mebibytes, goal: 64 << 20},
		)
	}
	if p.cold {
		add(
			row{what: "bring B, `syncfs` included, cold", have: ours("B cold pull"), format: seconds, peer: whole, other: r.of(hand, "A cold pull"), goal: 0.1,
				promise: "bring B, " + p.caches()},
			row{what: "fetch and unpack A, whole, `syncfs` included, cold", have: ours("A cold pull"), format: seconds,
				peer: "S3 CLI into `tar --zstd -x; sync -f`", other: r.of("zstd", "A cold pull"), goal: 1, promise: "fetch and unpack the whole, " + p.caches()},
			row{what: "pointer to live with ping, B, cold", have: ours("B cold live"), format: seconds},
			row{what: "agent's peak memory, A, cold", have: ours("A cold server"), format: mebibytes, goal: 64 << 20},
		)
	}
	if p.memory > 0 {
		t.note("Nothing was ended for want of memory.")
	}
	if p.name == "tight" {
		// What the process holds, the pages of its program included, is more than what the group is charged for.
		add(row{what: "all of it in a control group of 64 MiB: the most that the agent held", have: slices.Concat(ours("A server"), ours("B-big server")),
			format: mebibytes, passes: "passes", promise: "agent at work in a control group of 64 MiB"})
	}
	if p.name == "tight" || p.name == "link" {
		for i, r := range t.rows {
			if r.passes == "" {
				t.rows[i].promise = "" // the loopback's are what was promised
			}
		}
	}
	if p.shape != (shape{}) {
		t.note("The link is a proxy of the benchmark's own in front of each listener: it limits the rate of all connections together, delays each "+
			"direction by half of %v, lets a new connection wait a round trip and begin with %d kB a round trip, doubled each time. It loses "+
			"nothing. It stands in for netem, which the kernel has to have.", p.shape.rtt, firstWindow>>10)
	}
}

// caches says of a plan with cold caches what else is scarce.
func (p plan) caches() string {
	if p.memory > 0 {
		return "one processor and 192 MiB, cold caches"
	}
	return "cold caches"
}

// sameContentMost is what the publisher may have on its wire when there is nothing to upload.
const sameContentMost = 64e3

// share is s as a part of the median of other.
func share(s, other sample) (out sample) {
	for _, v := range s {
		out = append(out, v/other.median())
	}
	return out
}
