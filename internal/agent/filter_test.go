package agent

import (
	"os"
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

// What the packaged unit's filter forbids is an error to the agent and to what it runs. By default it is the end of the
// process, in the middle of a deployment perhaps.
func TestFilteredCallIsAnError(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, for a droplet")
	}
	packaged, err := os.ReadFile("../../packaging/towline-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	const number = "SystemCallErrorNumber=EPERM"
	d := parts.NewDroplet(t, parts.DropletOptions{Name: "filter"})
	d.Run(t, "useradd", "--system", "--user-group", "--no-create-home", "towline")
	for drop, want := range map[string]string{"nothing": "125", number: "159"} { // chroot's own failure; 128 and SIGSYS
		var unit []string
		for line := range strings.Lines(string(packaged)) {
			name, _, _ := strings.Cut(line, "=")
			switch {
			case name == "Type":
				line = "Type=oneshot\n"
			case name == "ExecStart":
				line = "ExecStart=/bin/sh -c 'chroot / true; echo $? >/var/lib/towline/code'\n"
			case name == "Restart", name == "ConditionPathExists", strings.TrimSpace(line) == drop:
				continue
			}
			unit = append(unit, line)
		}
		d.WriteFile(t, "/etc/systemd/system/filtered.service", []byte(strings.Join(unit, "")), 0o644)
		d.Run(t, "systemctl", "daemon-reload")
		d.Run(t, "systemctl", "start", "filtered")
		if got := strings.TrimSpace(d.Run(t, "cat", "/var/lib/towline/code")); got != want {
			t.Errorf("without %s in the unit: chroot ended with %s, want %s", drop, got, want)
		}
	}
}
