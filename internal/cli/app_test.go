package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/grant"
	"github.com/towline/towline/internal/service"
)

// goodUnit is one that there is nothing to say about.
func goodUnit() service.Description {
	return service.Description{
		Unit: "shop.service", Name: "shop.service", Files: []string{"/etc/systemd/system/shop.service"}, LoadState: "loaded", ActiveState: "inactive", FileState: "enabled", User: "shop", Type: "exec",
		WorkingDirectory: "/srv/shop/current",
		Programs:         []service.Program{{Setting: "ExecStart", Path: "/usr/bin/node", Argv: []string{"/usr/bin/node", "server.js"}}},
		Restart:          "always", RestartDelay: 3 * time.Second, StartLimit: 10 * time.Second, StartBurst: 5, OnLimit: "none", OnFailure: "none",
	}
}

func shopUser() account {
	return account{Owner: grant.Owner{User: "shop", Group: "shop", UID: 990, GID: 990}, gids: []int{990}, groups: []string{"shop"}}
}

func TestJudge(t *testing.T) {
	program := func(setting, prefix string, argv ...string) func(*service.Description, *account) {
		return func(d *service.Description, _ *account) {
			d.Programs = append(d.Programs, service.Program{Setting: setting, Path: argv[0], Argv: argv, Prefix: prefix})
		}
	}
	unit := func(tune func(*service.Description)) func(*service.Description, *account) {
		return func(d *service.Description, _ *account) { tune(d) }
	}
	for _, test := range []struct {
		name    string
		tune    func(*service.Description, *account)
		level   string // "": there is nothing to say
		want    string
		pardons bool // --allow-root makes it a warning
	}{
		{"good", func(*service.Description, *account) {}, "", "", false},
		{"no user", unit(func(d *service.Description) { d.User = "" }), refusal, "has no User=", true},
		{"root", func(d *service.Description, a *account) { d.User, a.UID = "root", 0 }, refusal, "has User=root, which is root", true},
		{"root by another name", func(d *service.Description, a *account) { d.User, a.UID = "toor", 0 }, refusal, "has User=toor, which is root", true},
		{"plus", program("ExecStartPre", "+", "/srv/shop/current/setup"), refusal, "ExecStartPre=+/srv/shop/current/setup of shop.service", true},
		{"plus in the working directory", program("ExecReload", "+", "/usr/bin/npm", "run", "reload"), refusal, "ExecReload=+/usr/bin/npm run reload", true},
		{"exclamation mark", program("ExecStop", "!", "/bin/sh", "-c", "cd '/srv/shop'; ./stop"), refusal, "ExecStop=!", true},
		{"two of them", program("ExecStart", "!!", "/srv/shop/current/run"), refusal, "ExecStart=!!", true},
		{"plus elsewhere", func(d *service.Description, a *account) {
			d.WorkingDirectory = "/"
			program("ExecStartPre", "+", "/bin/mkdir", "-p", "/run/shop", "/srv/shopping/x")(d, a)
			program("ExecStart", "", "/srv/shop/current/run")(d, a)
		}, "", "", false},
		{"dynamic user", unit(func(d *service.Description) { d.DynamicUser = true }), refusal, "DynamicUser=yes", false},
		{"the agent's user", func(d *service.Description, a *account) { d.User, a.User = "towline", "towline" }, refusal, "as the agent", false},
		{"member of the agent's group", func(_ *service.Description, a *account) { a.groups = append(a.groups, "towline") }, refusal, "gpasswd --delete shop towline", false},
		{"Group=", unit(func(d *service.Description) { d.Group = "towline" }), refusal, "runs in group towline", false},
		{"SupplementaryGroups=", unit(func(d *service.Description) { d.Groups = []string{"adm", "towline"} }), refusal, "runs in group towline", false},
		{"docker", func(_ *service.Description, a *account) { a.groups = append(a.groups, "docker") }, warning, "as good as root", false},
		{"absent", unit(func(d *service.Description) { d.LoadState = "not-found" }), refusal, "write /etc/systemd/system/shop.service first", false},
		{"alias", unit(func(d *service.Description) { d.Name = "web.service" }), refusal, "write unit: web.service", false},
		{"unit file of the app's", unit(func(d *service.Description) { d.Files = []string{"/srv/shop/releases/1-abc/shop.service"} }), refusal, "lies in the app's directory", true},
		{"masked", unit(func(d *service.Description) { d.LoadState = "masked" }), refusal, "unmask", false},
		{"bad", unit(func(d *service.Description) { d.LoadState = "bad-setting" }), refusal, "systemd-analyze verify", false},
		{"elsewhere", unit(func(d *service.Description) { d.WorkingDirectory = "/opt/shop" }), warning, "does not mention /srv/shop/current", false},
		{"one release", unit(func(d *service.Description) { d.WorkingDirectory = "/srv/shop/releases/1-abc" }), warning, "that one for ever", false},
		{"simple", unit(func(d *service.Description) { d.Type = "simple" }), advice, "Type=simple", false},
		{"oneshot", unit(func(d *service.Description) { d.Type = "oneshot" }), warning, "Type=oneshot", false},
		{"no restart", unit(func(d *service.Description) { d.Restart = "no" }), advice, "no Restart=", false},
		{"gives up", unit(func(d *service.Description) { d.RestartDelay = 100 * time.Millisecond }), advice, "gives up for good after 5 times within 10s", false},
		{"never gives up", unit(func(d *service.Description) { d.RestartDelay, d.StartLimit = 0, 0 }), "", "", false},
		{"reboots", unit(func(d *service.Description) { d.OnLimit = "reboot" }), warning, "StartLimitAction=reboot", false},
		{"disabled", unit(func(d *service.Description) { d.FileState = "disabled" }), advice, "systemctl enable shop.service", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, allowed := range []bool{false, true} {
				d, a := goodUnit(), shopUser()
				test.tune(&d, &a)
				level := test.level
				if allowed && test.pardons {
					level = warning
				}
				got := judge(d, a, "/srv/shop", allowed)
				if level == "" && len(got) == 0 {
					continue
				}
				if len(got) != 1 || got[0].Level != level || !strings.Contains(got[0].Text, test.want) {
					t.Errorf("allow-root %v: got %q, want one %s with %q", allowed, got, level, test.want)
				}
			}
		})
	}
}

func wantCode(t *testing.T, err error, want int) {
	t.Helper()
	got := 0
	if err != nil {
		got = exitCode(err)
		if o := outcome(0); errors.As(err, &o) {
			got = int(o)
		}
	}
	if got != want {
		t.Errorf("got exit code %d (%v), want %d", got, err, want)
	}
}

func TestAppAddAndRemove(t *testing.T) {
	g, out := machine(t, shop)
	g.dryRun = true
	wantCode(t, g.add(t.Context(), "shop"), deployment.ExitOK)
	if _, err := os.Stat(g.root); !errors.Is(err, fs.ErrNotExist) || strings.Contains(out.String(), "<") || !strings.Contains(out.String(), "make     /srv/shop/releases/") {
		t.Errorf("a dry run that did something, or did not say what:\n%s", out)
	}
	g.dryRun = false
	out.Reset()
	wantCode(t, g.add(t.Context(), "shop"), deployment.ExitOK)
	if got := out.String(); !strings.Contains(got, "<daemon-reload>\n") || !strings.Contains(got, "<try-restart towline-agent.service>\nok: ") {
		t.Errorf("got\n%s\nwant the agent restarted at the end", got)
	}
	rule := g.root + "/etc/polkit-1/rules.d/50-towline-shop.rules"
	if _, err := os.Stat(rule); err != nil {
		t.Error(err)
	}
	out.Reset()
	wantCode(t, g.add(t.Context(), "shop"), deployment.ExitOK)
	if got := out.String(); !strings.Contains(got, "nothing to do") || strings.Contains(got, "<") {
		t.Errorf("again: got\n%s\nwant nothing to do", got)
	}
	out.Reset()
	g.noRestart, g.json = true, true
	wantCode(t, g.remove(t.Context(), "shop"), deployment.ExitOK)
	var report grantReport
	text := strings.ReplaceAll(out.String(), "<daemon-reload>\n", "")
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(report.Changes) != 3 || report.Restarted || report.Next != "systemctl try-restart towline-agent.service" || len(only(report.Findings, warning)) != 1 {
		t.Errorf("got %+v", report)
	}
	if _, err := os.Stat(rule); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the rule is still there")
	}
	if _, err := os.Stat(g.root + "/srv/shop/shared"); err != nil {
		t.Error(err)
	}
}

func TestAppAddReloadsWhatWasLeftUnloaded(t *testing.T) {
	g, out := machine(t, shop)
	work, inspect := g.systemctl, g.inspect
	g.systemctl = func(context.Context, ...string) error { return errors.New("the bus is away") }
	wantCode(t, g.add(t.Context(), "shop"), deployment.ExitError)
	out.Reset()
	g.systemctl = work
	g.inspect = func(ctx context.Context, unit string) (service.Description, error) {
		d, err := inspect(ctx, unit)
		d.Stale = unit == grant.AgentUnit
		return d, err
	}
	wantCode(t, g.add(t.Context(), "shop"), deployment.ExitOK)
	if got := out.String(); !strings.Contains(got, "<daemon-reload>\n") || !strings.Contains(got, "<try-restart towline-agent.service>\nok: ") {
		t.Errorf("got\n%s\nwant what the first run left undone", got)
	}
}

func TestAppRemoveOfWhatIsNotThere(t *testing.T) {
	g, out := machine(t, shop)
	err := g.remove(t.Context(), "shopp")
	wantCode(t, err, deployment.ExitUnknown)
	if f := (*fault)(nil); !errors.As(err, &f) || f.hint != "did you mean shop?" || f.what != "remove app shopp" {
		t.Errorf("got %+v, want a suggestion", err)
	}
	wantCode(t, g.remove(t.Context(), "shop"), deployment.ExitOK) // it is configured, and was never added
	if !strings.Contains(out.String(), "nothing to do") {
		t.Errorf("got\n%s", out)
	}
}

func TestJudgeSeesThroughLinks(t *testing.T) {
	base := t.TempDir()
	if err := os.MkdirAll(filepath.Join(base, "data/shop/releases/1-a"), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"srv": "data", "tool": "data/shop/releases/1-a/tool"} {
		if err := os.Symlink(filepath.Join(base, to), filepath.Join(base, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(base, "data/shop/releases/1-a/tool"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*service.Description){
		"unit file": func(d *service.Description) {
			d.Files = []string{filepath.Join(base, "data/shop/releases/1-a/shop.service")}
		},
		"program by its real name": func(d *service.Description) {
			d.Programs = append(d.Programs, service.Program{Setting: "ExecStartPre", Path: filepath.Join(base, "data/shop/current/x"), Prefix: "+"})
		},
		"program by a link": func(d *service.Description) {
			d.Programs = append(d.Programs, service.Program{Setting: "ExecStartPre", Path: filepath.Join(base, "tool"), Prefix: "+"})
		},
	} {
		d := goodUnit()
		change(&d)
		if got := only(judge(d, shopUser(), filepath.Join(base, "srv/shop"), false), refusal); len(got) != 1 {
			t.Errorf("%s: got %q, want it refused", name, got)
		}
	}
}

func TestJudgeLooksAtWhoMayChangeWhatRootRuns(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "setup")
	if err := os.WriteFile(file, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	mine := shopUser()
	mine.UID = os.Getuid()
	if mine.UID == 0 {
		mine.UID = 990
		if err := os.Chown(file, 990, 0); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		change func(*service.Description)
		want   int
	}{
		"unit file": {func(d *service.Description) { d.Files = append(d.Files, file) }, 1},
		"with a prefix": {func(d *service.Description) {
			d.Programs = append(d.Programs, service.Program{Setting: "ExecStartPre", Path: file, Prefix: "+"})
		}, 1},
		"as the user": {func(d *service.Description) {
			d.Programs = append(d.Programs, service.Program{Setting: "ExecStartPre", Path: file})
		}, 0},
	} {
		d := goodUnit()
		d.WorkingDirectory = "/"
		d.Programs[0].Argv = []string{"/usr/bin/node", "/srv/shop/current/server.js"}
		change := c.change
		change(&d)
		for _, allowed := range []bool{false, true} {
			level := map[bool]string{false: refusal, true: warning}[allowed]
			if got := only(judge(d, mine, "/srv/shop", allowed), level); len(got) != c.want {
				t.Errorf("%s, allow-root %v: got %q, want %d", name, allowed, got, c.want)
			}
		}
	}
	for mode, want := range map[os.FileMode]bool{0o755: false, 0o757: true, 0o775: true} {
		who := account{Owner: grant.Owner{UID: 1 << 20}, gids: []int{os.Getgid()}}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if got := changeable(file, who); got != want {
			t.Errorf("%v: got %v, want %v", mode, got, want)
		}
	}
}

func TestGroupsByNumber(t *testing.T) {
	for in, want := range map[string]string{"0": "root", "root": "root", "4242424242": "4242424242"} {
		if got := groupName(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestAppAddRefuses(t *testing.T) {
	t.Run("unknown", func(t *testing.T) {
		g, _ := machine(t, shop)
		err := g.add(t.Context(), "blog")
		wantCode(t, err, deployment.ExitUnknown)
		if f := (*fault)(nil); !errors.As(err, &f) || !strings.Contains(f.hint, "\n  blog:\n    unit: blog.service\n") {
			t.Errorf("got %+v, want the lines to add", err)
		}
		if err := g.add(t.Context(), "shopp"); err == nil || !strings.Contains(err.(*fault).hint, "did you mean shop?") {
			t.Errorf("got %+v, want a suggestion", err)
		}
	})
	t.Run("not root", func(t *testing.T) {
		g, _ := machine(t, shop)
		g.euid = 1000
		wantCode(t, g.add(t.Context(), "shop"), deployment.ExitUsage)
		wantCode(t, g.remove(t.Context(), "shop"), deployment.ExitUsage)
	})
	t.Run("bad name", func(t *testing.T) {
		g, _ := machine(t, shop)
		wantCode(t, g.add(t.Context(), "../shop"), deployment.ExitUsage)
		wantCode(t, g.remove(t.Context(), "../shop"), deployment.ExitUsage)
	})
	t.Run("root", func(t *testing.T) {
		g, out := machine(t, shop)
		inspect := g.inspect
		g.inspect = func(ctx context.Context, unit string) (service.Description, error) {
			d, err := inspect(ctx, unit)
			d.User = ""
			return d, err
		}
		find := g.account
		g.account = func(name, group string) (account, error) {
			if name == "root" {
				return account{Owner: grant.Owner{User: "root", Group: "root"}}, nil
			}
			return find(name, group)
		}
		wantCode(t, g.add(t.Context(), "shop"), deployment.ExitUsage)
		if _, err := os.Stat(g.root); !errors.Is(err, fs.ErrNotExist) {
			t.Error("something was granted all the same")
		}
		if os.Geteuid() == 0 {
			g.allowRoot = true
			wantCode(t, g.add(t.Context(), "shop"), deployment.ExitOK)
			if !strings.Contains(out.String(), "warning: shop.service has no User=") {
				t.Errorf("got\n%s\nwant a warning", out)
			}
		}
	})
}

func TestAppAddWithAnOldPolkit(t *testing.T) {
	for version, want := range map[string]string{"0.105": "polkit 0.105 is older than 0.106", "": "polkit is not installed"} {
		g, out := machine(t, shop)
		g.dryRun = true
		g.polkit = func(context.Context) (string, bool, error) { return version, false, nil }
		wantCode(t, g.add(t.Context(), "shop"), deployment.ExitOK)
		if got := out.String(); !strings.Contains(got, "_root.conf") || !strings.Contains(got, "THE AGENT RUNS AS ROOT on this server: "+want) {
			t.Errorf("got\n%s\nwant it said loudly", got)
		}
	}
}

// A newer polkit takes root from the agent with the first app; the others must not be found out by their next deployment.
func TestAppAddEndsRootForAllApps(t *testing.T) {
	g, out := machine(t, shop+"  blog: {unit: blog.service}\n")
	g.polkit = func(context.Context) (string, bool, error) { return "0.105", false, nil }
	wantCode(t, g.add(t.Context(), "shop"), deployment.ExitOK)
	g.polkit = func(context.Context) (string, bool, error) { return "122", true, nil }
	const want = "warning: the agent is root no longer, and so far it has no rights for blog: run towline app add for each"
	for _, says := range []bool{true, false} {
		out.Reset()
		wantCode(t, g.add(t.Context(), "shop"), deployment.ExitOK)
		if got := strings.Contains(out.String(), want); got != says {
			t.Errorf("said: %v, want %v:\n%s", got, says, out)
		}
	}
}
