package host

import (
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
)

// TestUnitByHand has an administrator stop the app's unit, then edit its file. The agent starts nothing that was stopped, and
// changes no file; that systemd has yet to read the file is said with the next release, which is deployed.
func TestUnitByHand(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.release("v0")
	m.ended(t, deployment.Deployed, "v0")

	m.Run(t, "systemctl", "stop", appUnit)
	looks := func() (n int) { m.store.set(func() { n = len(m.store.looks) }); return n }
	before := looks()
	eventually(t, "the agent looks on", func() (bool, string) { return looks() >= before+3, m.Journal(t, agentUnit) })
	if got, _ := m.TryRun(t, "systemctl", "is-active", appUnit); got != "inactive\n" {
		t.Errorf("stopped by hand: got it %q, want it left so", got)
	}
	m.release("v1")
	m.ended(t, deployment.Deployed, "v1")

	const file, said = "/etc/systemd/system/" + appUnit, "unit file changed on disk: run systemctl daemon-reload"
	if log := m.Journal(t, agentUnit); strings.Contains(log, said) {
		t.Errorf("before the edit: got\n%s", log)
	}
	m.Run(t, "sh", "-c", "echo '# by hand' >> "+file)
	edited := string(m.ReadFile(t, file))
	m.release("v2")
	m.ended(t, deployment.Deployed, "v2")
	if log := m.Journal(t, agentUnit); !strings.Contains(log, said) {
		t.Errorf("got\n%s\nwant %q", log, said)
	}
	if got := string(m.ReadFile(t, file)); got != edited {
		t.Errorf("got the file\n%s\nwant it left as it was edited", got)
	}
}
