package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/service"
)

func TestJudgeManners(t *testing.T) {
	start := func(argv ...string) []service.Program {
		return []service.Program{{Setting: "ExecStart", Path: argv[0], Argv: argv}}
	}
	for _, test := range []struct {
		name  string
		tune  func(*service.Description)
		level string // "": there is nothing to say
		want  string
	}{
		{"by the program", func(d *service.Description) { d.WorkingDirectory, d.Programs = "", start("/srv/shop/current/server") }, "", ""},
		{"by a word", func(d *service.Description) {
			d.WorkingDirectory, d.Programs = "/", start("/usr/bin/node", "/srv/shop/current/a.js")
		}, "", ""},
		{"by a flag", func(d *service.Description) {
			d.WorkingDirectory, d.Programs = "/", start("/usr/bin/x", "--dir=/srv/shop/current")
		}, "", ""},
		{"by a shell", func(d *service.Description) {
			d.WorkingDirectory, d.Programs = "", start("/bin/sh", "-c", "cd '/srv/shop/current' && exec ./run")
		}, "", ""},
		{"one release", func(d *service.Description) { d.WorkingDirectory = "/srv/shop/releases/1-abc/app" }, warning,
			"WorkingDirectory=/srv/shop/releases/1-abc/app of shop.service names one release: it will start that one for ever; write WorkingDirectory=/srv/shop/current/app"},
		{"one release's program", func(d *service.Description) { d.Programs = start("/srv/shop/releases/1-abc/server") }, warning,
			"ExecStart=/srv/shop/releases/1-abc/server of shop.service names one release: it will start that one for ever; write ExecStart=/srv/shop/current/server"},
		{"the app's directory", func(d *service.Description) { d.WorkingDirectory = "/srv/shop" }, warning, "WorkingDirectory=/srv/shop of shop.service does not mention"},
		{"elsewhere", func(d *service.Description) { d.WorkingDirectory, d.Programs = "/opt", start("/usr/bin/node", "x.js") }, warning,
			"ExecStart=/usr/bin/node of shop.service does not mention /srv/shop/current"},
		{"forking", func(d *service.Description) { d.Type = "forking" }, advice, "stay in the foreground"},
		{"notify", func(d *service.Description) { d.Type = "notify" }, "", ""},
		{"only the main process", func(d *service.Description) { d.KillMode = "process" }, warning, "beside the new one"},
		{"mixed", func(d *service.Description) { d.KillMode = "mixed" }, "", ""},
		{"slow to end", func(d *service.Description) { d.StopTime = 5 * time.Minute }, advice, "take 5m0s to end, and the agent waits 2m0s"},
		{"never ends", func(d *service.Description) { d.StopTime = 1 << 62 }, advice, "take for ever to end"},
		{"ends as usual", func(d *service.Description) { d.StopTime = 90 * time.Second }, "", ""},
		{"settings of a release", func(d *service.Description) { d.EnvironmentFiles = []string{"/srv/shop/releases/1-a/.env"} }, warning, "is of one release"},
		{"settings of the live one", func(d *service.Description) { d.EnvironmentFiles = []string{"/srv/shop/current/.env"} }, warning, "root reads it"},
		{"settings of the server", func(d *service.Description) {
			d.EnvironmentFiles = []string{"/etc/shop.env", "/srv/shop/shared/.env"}
		}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := goodUnit()
			test.tune(&d)
			got := judge(d, shopUser(), "/srv/shop", false)
			if test.level == "" && len(got) == 0 {
				return
			}
			if len(got) != 1 || got[0].Level != test.level || !strings.Contains(got[0].Text, test.want) {
				t.Errorf("got %q, want one %s with %q", got, test.level, test.want)
			}
			lines := sound(d, shopUser(), config.App{Dir: "/srv/shop"}, got)
			if all := sound(goodUnit(), shopUser(), config.App{Dir: "/srv/shop"}, nil); len(lines) > len(all)+1 || len(all) != 4 {
				t.Errorf("got %q as sound, of a good one %q", lines, all)
			}
		})
	}
}

// A directory that was adopted, or is going to be, leads to current.
func TestJudgeFollowsLinksToCurrent(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "srv/shop")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "releases/1-abc"), 0o755), os.Symlink("releases/1-abc", filepath.Join(dir, "current")),
		os.Symlink(filepath.Join(dir, "current"), filepath.Join(base, "absolute")), os.Symlink("srv/shop/current", filepath.Join(base, "relative")),
		os.Symlink("loop", filepath.Join(base, "loop")), os.Mkdir(filepath.Join(base, "plain"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]bool{
		"absolute": true, "absolute/server": true, "relative/a/b": true, "loop/x": false, "plain/x": false, "absent": false, "srv/shop/currents": false,
	} {
		d := goodUnit()
		d.WorkingDirectory = filepath.Join(base, name)
		if got := judge(d, shopUser(), dir, false); (len(got) == 0) != want {
			t.Errorf("%s: got %q, want it to follow %v", name, got, want)
		}
	}
	d := goodUnit()
	d.WorkingDirectory = filepath.Join(base, "plain/sub")
	if got := judge(d, shopUser(), dir, false, filepath.Join(base, "plain")); len(got) > 0 {
		t.Errorf("to be adopted: got %q", got)
	}
	d.Programs = append(d.Programs, service.Program{Setting: "ExecStartPre", Path: "/bin/sh", Argv: []string{"/bin/sh", "./setup"}, Prefix: "+"})
	for _, at := range []string{"plain", "absolute"} {
		d.WorkingDirectory = filepath.Join(base, at)
		if got := only(judge(d, shopUser(), dir, false, filepath.Join(base, "plain")), refusal); len(got) != 1 {
			t.Errorf("%s: got %q, want the program with root's rights refused", at, got)
		}
	}
}

func TestJudgeGate(t *testing.T) {
	for name, c := range map[string]struct {
		health config.Health
		socket bool
		want   string
	}{
		"http":                {config.Health{HTTP: "http://x/"}, true, ""},
		"tcp":                 {config.Health{TCP: "x:1"}, false, ""},
		"exec":                {config.Health{Exec: []string{"x"}}, true, ""},
		"none":                {config.Health{Stable: 5 * time.Second}, false, "stays up for 5s counts as healthy"},
		"tcp, and systemd is": {config.Health{TCP: "x:1"}, true, "proves nothing"},
	} {
		said := ""
		judgeGate(config.App{Key: "shop", Health: c.health}, c.socket, func(level, format string, args ...any) { said += format })
		if (said == "") != (c.want == "") || !strings.Contains(strings.ReplaceAll(said, "%v", "5s"), c.want) {
			t.Errorf("%s: got %q, want %q", name, said, c.want)
		}
	}
}
