package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deployment"
)

func TestVerify(t *testing.T) {
	sound := deployment.Verification{Name: "184-e02371ab6db3", Seq: 184, Hash: hashOne, Live: true, State: deployment.Sound, Checked: "2026-11-23T14:00:00Z"}
	changed := deployment.Verification{
		Name: "183-0c1f4b7d2a9e", Seq: 183, Hash: hashTwo, State: deployment.Drifted, More: 12,
		Differ: []deployment.Difference{{Path: "bin/server", What: deployment.Changed}, {Path: "evil\x1b[2J\nname", What: deployment.Added}},
	}
	unknown := deployment.Verification{Name: "p1-abc", Hash: "abc", State: deployment.Unknown, Reason: "nobody knows"}
	unread := deployment.Verification{Name: "2-abc", Seq: 2, Hash: "abc", State: deployment.Unread, Reason: "input/output error"}
	for _, c := range []struct {
		name string
		all  []deployment.Verification
		code int
		want string
	}{
		{"sound", []deployment.Verification{sound, unknown}, 0, `FOUND      RELEASE            DIRECTORY         WHERE
ok         #184 e02371ab6db3  184-e02371ab6db3  live
not known  abc                p1-abc            on disk

p1-abc: not known: nobody knows
`},
		{"changed", []deployment.Verification{sound, changed, unread}, deployment.ExitRefused, `FOUND    RELEASE            DIRECTORY         WHERE
ok       #184 e02371ab6db3  184-e02371ab6db3  live
changed  #183 0c1f4b7d2a9e  183-0c1f4b7d2a9e  on disk
unread   #2 abc             2-abc             on disk

183-0c1f4b7d2a9e: changed
  changed  bin/server
  added    evil [2J name
  and 12 more

2-abc: unread: input/output error
`},
		{"unread", []deployment.Verification{sound, unread}, deployment.ExitError, `FOUND   RELEASE            DIRECTORY         WHERE
ok      #184 e02371ab6db3  184-e02371ab6db3  live
unread  #2 abc             2-abc             on disk

2-abc: unread: input/output error
`},
		{"none", nil, 0, "nodeapi: no release on this server yet\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeAgent(t)
			f.add(nodeapi())
			f.result = deployment.Result{Releases: c.all}
			code, out, stderr := f.run(t, t.Context(), "verify", "nodeapi")
			if code != c.code || stderr != "" {
				t.Errorf("got exit code %d, stderr %q; want %d and none", code, stderr, c.code)
			}
			wantText(t, out, c.want)
			if want := []string{"nodeapi verify {}"}; !cmp.Equal(f.asked, want) {
				t.Errorf("asked: got %q, want %q", f.asked, want)
			}

			code, out, _ = f.run(t, t.Context(), "verify", "--json")
			var got struct {
				Releases []deployment.Verification `json:"releases"`
			}
			if err := json.Unmarshal([]byte(out), &got); err != nil || code != c.code || got.Releases == nil || len(got.Releases) != len(c.all) {
				t.Errorf("--json: got exit code %d, %v, %s; want %d and %d releases", code, err, out, c.code, len(c.all))
			}
		})
	}
}

func TestStatusNamesWhatWasChanged(t *testing.T) {
	f := newFakeAgent(t)
	d := nodeapi()
	d.Deployments = nil
	d.Receipt.Status = "release 183-0c1f4b7d2a9e was changed on this server"
	d.Drift = []deployment.Verification{{
		Name: "183-0c1f4b7d2a9e", Seq: 183, Hash: hashTwo, State: deployment.Drifted, Differ: []deployment.Difference{{Path: "bin/server", What: deployment.Missing}},
	}}
	f.add(d)
	_, out, _ := f.run(t, t.Context(), "status", "nodeapi")
	for _, want := range []string{"note     release 183-0c1f4b7d2a9e was changed on this server\n", "\n183-0c1f4b7d2a9e: changed\n  missing  bin/server\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("got %q, want %q in it", out, want)
		}
	}
}
