package zoo

import (
	"fmt"
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// animal is one unit, and what is to become of its second release.
type animal struct {
	name   string
	over   string // lines of the unit's [Unit]
	unit   string // lines of its [Service]
	start  string // ExecStart=; /bin/sh ./run where it is empty
	socket bool   // systemd holds the port
	mute   bool   // no port: the release that runs is seen in /run/zoo/NAME

	health        string // in agent.yaml; a request that wants the release's hash where it is empty
	first, second string // the script run of the two releases; empty: it is missing
	sick          bool   // the first release does not start any more once the second is on its way

	// meanwhile is done to the server once the second release is unpacked and before it is activated.
	meanwhile string

	outcome deployment.Outcome
	step    deployment.Step // that failed first; empty: none
	reason  string          // part of it; parts of which one is enough are set apart by a bar
	said    string          // part of what was said before: an event's message or a line of the log; empty: anything
}

// deadline is what each deployment may take at most: the time for becoming healthy, the soak and one last attempt, for it and for
// what is put back, and what the units' own limits allow for starting and stopping.
const deadline = 40 * time.Second

// good is a release that works.
const good = "exec beast"

// animals is the zoo.
var animals = []animal{
	{name: "loop", unit: "Restart=always\nRestartSec=200ms", first: good, second: "echo no such database; exit 7", said: "no such database",
		outcome: deployment.RolledBack, step: deployment.Check, reason: "exited with status 7|main process ended and was restarted"},
	{name: "limit", over: "StartLimitIntervalSec=1h\nStartLimitBurst=2", unit: "Restart=always\nRestartSec=20ms", first: good, second: "exit 1",
		outcome: deployment.RolledBack, step: deployment.Check, reason: "unit exited with status 1|main process ended and was restarted"},
	{name: "limited", over: "StartLimitIntervalSec=1h\nStartLimitBurst=3", first: good, second: good,
		meanwhile: "while systemctl restart limited.service; do :; done 2> /dev/null; systemctl show --property=Result limited.service | grep start-limit-hit",
		outcome:   deployment.Deployed},
	{name: "slow", first: good, second: "exec beast -after 2s", outcome: deployment.Deployed},
	{name: "late", first: good, second: "exec beast -after 1h",
		outcome: deployment.RolledBack, step: deployment.Check, reason: "not healthy within 10s: GET "},
	{name: "zero", first: good, second: "exit 0",
		outcome: deployment.RolledBack, step: deployment.Check, reason: "exited with status 0"},
	{name: "zeros", unit: "Restart=always\nRestartSec=200ms", first: good, second: "exit 0",
		outcome: deployment.RolledBack, step: deployment.Check, reason: "unit exited with status 0|main process ended and was restarted"},
	{name: "daemon", first: good, second: "exec beast -away",
		outcome: deployment.RolledBack, step: deployment.Check, reason: "needs Type=forking"},
	{name: "forking", unit: "Type=forking", first: "exec beast -away", second: "exec beast -away", outcome: deployment.Deployed},
	{name: "forker", unit: "Type=forking\nTimeoutStartSec=6s", first: "exec beast -away", second: good,
		outcome: deployment.RolledBack, step: deployment.Activate, reason: "timeout"},
	{name: "orphan", unit: "Type=forking", first: "exec beast -away", second: "(exec sleep 0.5) &",
		outcome: deployment.RolledBack, step: deployment.Check, reason: "unit exited with status "},
	{name: "notify", unit: "Type=notify", first: good, second: "exec beast -after 1s", outcome: deployment.Deployed},
	{name: "unready", unit: "Type=notify\nTimeoutStartSec=6s", first: good, second: "exec sleep 1000",
		outcome: deployment.RolledBack, step: deployment.Activate, reason: "timeout"},
	{name: "exec", unit: "Type=exec", start: "/srv/exec/current/run", first: good,
		outcome: deployment.RolledBack, step: deployment.Activate, reason: "203 (EXEC: the program is missing"},
	{name: "simple", unit: "Type=simple", start: "/srv/simple/current/run", first: good,
		outcome: deployment.RolledBack, step: deployment.Check, reason: "the program is missing"},
	{name: "oneshot", unit: "Type=oneshot\nRemainAfterExit=yes", mute: true, health: "stable: 500ms",
		first: "cat version.txt > /run/zoo/oneshot", second: "echo cannot; exit 3",
		outcome: deployment.RolledBack, step: deployment.Activate, reason: "exited with status 3"},
	{name: "socket", socket: true, first: good, second: "echo no port for me; exit 4",
		outcome: deployment.RolledBack, step: deployment.Check, reason: "exited with status 4"},
	{name: "deaf", unit: "TimeoutStopSec=1s", first: "exec beast -deaf", second: "exec beast -deaf", outcome: deployment.Deployed},
	{name: "stubborn", unit: "TimeoutStopSec=1s", first: "exec beast -deaf", second: "exec beast -deaf -status 500",
		outcome: deployment.RolledBack, step: deployment.Check, reason: "not healthy within 10s: GET "},
	{name: "soak", first: good, second: "exec beast -die 300ms", said: "watching for another",
		outcome: deployment.RolledBack, step: deployment.Check, reason: "exited with status 9"},
	{name: "flap", health: "passes: 3", first: good, second: "exec beast -flap",
		outcome: deployment.RolledBack, step: deployment.Check, reason: "not healthy within 10s: "},
	{name: "ghost", unit: "KillMode=process", first: "beast & exec sleep 1000", second: "beast & exec sleep 1000",
		outcome: deployment.RolledBack, step: deployment.Check, reason: `answer does not contain "ghost-release-2", but: ghost-release-1`},
	{name: "env", unit: "EnvironmentFile=/srv/env/current/settings", first: good, second: good,
		outcome: deployment.RolledBack, step: deployment.Activate, reason: "resources"},
	{name: "glutton", unit: "MemoryMax=64M\nMemorySwapMax=0", first: good, second: "exec beast -eat",
		outcome: deployment.RolledBack, step: deployment.Check, reason: "killed "},
	{name: "masked", first: good, second: good, meanwhile: "rm /etc/systemd/system/masked.service; systemctl mask --quiet masked.service",
		outcome: deployment.Failed, step: deployment.Activate, reason: "the unit is masked: run systemctl unmask masked.service"},
	{name: "removed", first: good, second: good, meanwhile: "rm /etc/systemd/system/removed.service; systemctl daemon-reload",
		outcome: deployment.Failed, step: deployment.Activate, reason: "no such unit"},
	{name: "spoilt", first: good, second: good, meanwhile: "sed -i 's/^ExecStart=.*/Type=oneshoot/' /etc/systemd/system/spoilt.service; systemctl daemon-reload",
		outcome: deployment.Failed, step: deployment.Activate, reason: "spoilt.service"},
	{name: "edited", first: good, second: good, meanwhile: "sed -i 's/^ExecStart=.*/ExecStart=false/' /etc/systemd/system/edited.service",
		outcome: deployment.Deployed},
	{name: "denied", first: good, second: good, meanwhile: "rm /etc/polkit-1/rules.d/*towline-denied.rules; until ! runuser -u towline -- systemctl --no-ask-password reset-failed denied.service; do sleep 0.1; done",
		outcome: deployment.Failed, step: deployment.Activate, reason: "access denied: no polkit rule grants"},
	{name: "both", sick: true, first: "test ! -e /run/zoo/both.sick || exit 5\nexec beast", second: "exit 6",
		outcome: deployment.Broken, step: deployment.Check, reason: "exited with status 6"},
}

// files are what lies on the server for the animal, by path without the first slash.
func (a animal) files(port string) map[string]string {
	start := a.start
	if start == "" {
		start = "/bin/sh ./run"
	}
	files := map[string]string{
		"etc/systemd/system/" + a.name + ".service": fmt.Sprintf("[Unit]\nDescription=%s\n%s\n[Service]\nUser=zoo\nEnvironment=PORT=%s\n"+
			"WorkingDirectory=/srv/%s/current\nExecStart=%s\n%s\n[Install]\nWantedBy=multi-user.target\n", a.name, a.over, port, a.name, start, a.unit),
	}
	if a.socket {
		files["etc/systemd/system/"+a.name+".socket"] = "[Socket]\nListenStream=127.0.0.1:" + port + "\n[Install]\nWantedBy=sockets.target\n"
	}
	for n, run := range map[int]string{1: a.first, 2: a.second} {
		dir := fmt.Sprintf("opt/%s/%d/", a.name, n)
		files[dir+"version.txt"] = version(a.name, n) + "\n"
		if run != "" {
			files[dir+"run"] = "#!/bin/sh\n" + run + "\n"
		}
		if a.meanwhile != "" {
			files[dir+"before"] = map[int]string{1: "#!/bin/true\n", 2: fmt.Sprintf("#!/bin/sh\ntouch /run/zoo/%s.here\n"+
				"while ! test -e /run/zoo/%s.go; do sleep 0.05; done\n", a.name, a.name)}[n]
		}
	}
	files["opt/"+a.name+"/1/settings"] = "A=1\n"
	return files
}

// config is the animal's entry in agent.yaml.
func (a animal) config(port string) string {
	health := "within: 10s"
	if !strings.Contains(a.health, "stable:") {
		health += ", stable: 2s"
	}
	if a.health != "" {
		health += ", " + a.health
	}
	if !a.mute {
		health += fmt.Sprintf(`, http: "http://127.0.0.1:%s/", expect: "{{hash}}"`, port)
	}
	hooks := ""
	if a.meanwhile != "" {
		hooks = "    hooks: {before-activate: [./before]}\n"
	}
	return fmt.Sprintf("  %s:\n    unit: %s.service\n    health: {%s}\n%s", a.name, a.name, health, hooks)
}
