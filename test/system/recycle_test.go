package system

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestReleaseIsRecycled deploys four releases through the packaged agent, within all that its unit forbids it: the fourth is
// made of the first, and whether nobody has touched it is told without reading it.
func TestReleaseIsRecycled(t *testing.T) {
	key := newKey(t)
	d := bare(t, "recycle", key, "  shop: {unit: shop.service, shared: [data/], health: {stable: 200ms}}\n")
	d.WriteFile(t, "/etc/systemd/system/shop.service", []byte("[Service]\nUser=shop\nWorkingDirectory=/srv/shop/current\nExecStart=/bin/sleep infinity\n"), 0o644)
	d.Run(t, "towline", "app", "add", "shop")
	d.Run(t, "systemctl", "start", "towline-agent.service")
	d.WaitActive(t, "towline-agent.service")
	for i := range 300 {
		d.WriteFile(t, fmt.Sprintf("/root/app/lib/%d.js", i), []byte(strings.Repeat(fmt.Sprintf("module.exports = %d;\n", i*i), 500)), 0o644)
	}
	log := ""
	for n := 1; n <= 4; n++ {
		d.WriteFile(t, "/root/app/version", fmt.Appendf(nil, "v%d\n", n), 0o644)
		publish(t, d, key, fmt.Sprintf("v%d", n))
		log = loggedTimes(t, d, "towline-agent.service", "outcome=deployed", n)
	}
	if !strings.Contains(log, "1-v1 recycled") {
		t.Errorf("the fourth release is not made of the first:\n%s", log)
	}
	if got := d.Run(t, "cat", "/srv/shop/current/version"); got != "v4\n" {
		t.Errorf("got %q live, want v4", got)
	}

	// The next deployment writes down what the look after this one found.
	publish(t, d, key, "v4-again")
	loggedTimes(t, d, "towline-agent.service", "outcome=unchanged", 1)
	var kept struct {
		State struct {
			Trees []struct{ Name, Print, Checked string }
		}
	}
	if err := json.Unmarshal(d.ReadFile(t, "/var/lib/towline/apps/shop/state.json"), &kept); err != nil {
		t.Fatal(err)
	}
	for _, tree := range kept.State.Trees {
		if tree.Name == "4-v4" && (tree.Print == "" || tree.Checked != "") {
			t.Errorf("got %+v, want its fingerprint, and that it was not read", tree)
		}
	}
	if out := d.Run(t, "towline", "verify", "shop"); strings.Contains(out, "drifted") {
		t.Errorf("verify:\n%s", out)
	}
}
