package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/grant"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/internal/service"
)

// machine is a granting on a machine that is no more than a directory.
func machine(t *testing.T, apps string) (*granting, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	key, err := release.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "agent.yaml")
	text := fmt.Sprintf("server: web-1\nbucket: deploys\ntrust: {keys: [%q]}\napps:\n%s", key.Public(), apps)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out := &bytes.Buffer{}
	g := &granting{
		p: &program{env: Env{Stdout: out, Stderr: out}, config: path}, root: filepath.Join(dir, "root"),
		inspect: func(_ context.Context, unit string) (service.Description, error) {
			d := goodUnit()
			d.Unit, d.Name = unit, unit
			if unit == grant.AgentUnit {
				d.ActiveState = "active"
			}
			return d, nil
		},
		account: func(name, _ string) (account, error) {
			me := account{Owner: grant.Owner{User: name, Group: name, UID: os.Getuid(), GID: os.Getgid()}}
			if me.UID == 0 {
				me.UID, me.GID = 65534, 65534
			}
			return me, nil
		},
		polkit: func(context.Context) (string, bool, error) { return "122", true, nil },
		systemctl: func(_ context.Context, args ...string) error {
			fmt.Fprintf(out, "<%s>\n", strings.Join(args, " "))
			return nil
		},
		useradd: func(_ context.Context, args ...string) error {
			fmt.Fprintf(out, "<useradd %s>\n", strings.Join(args, " "))
			return nil
		},
	}
	return g, out
}

const shop = "  shop: {unit: shop.service, hooks: {before-activate: [./migrate]}}\n"

// bareMachine is a machine that has neither the app's user nor its unit; both come to be as app add makes them.
func bareMachine(t *testing.T) (*granting, *bytes.Buffer) {
	t.Helper()
	g, out := machine(t, "  # the shop\n  shop: {unit: shop.service}\n")
	made := map[string]bool{}
	inspect, find, add := g.inspect, g.account, g.useradd
	g.inspect = func(ctx context.Context, unit string) (service.Description, error) {
		d, err := inspect(ctx, unit)
		if _, serr := os.Stat(g.root + "/etc/systemd/system/" + unit); serr != nil && unit != grant.AgentUnit {
			return service.Description{Unit: unit, Name: unit, LoadState: "not-found", ActiveState: "inactive"}, nil
		}
		d.User, d.WorkingDirectory, d.FileState = "blog", "/srv/blog/current", "disabled"
		return d, err
	}
	g.account = func(name, group string) (account, error) {
		if name == "blog" && !made[name] {
			return account{}, fmt.Errorf("look up: %w", user.UnknownUserError(name))
		}
		return find(name, group)
	}
	g.useradd = func(ctx context.Context, args ...string) error {
		made[args[len(args)-1]] = true
		return add(ctx, args...)
	}
	if err := os.MkdirAll(g.root+"/usr/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.root+"/usr/bin/node", nil, 0o755); err != nil {
		t.Fatal(err)
	}
	return g, out
}

// run runs app add or app remove as it is typed.
func (g *granting) run(t *testing.T, args ...string) error {
	t.Helper()
	config := g.p.config
	cmd := g.command()
	g.p.config = config // which the flag's default has overwritten
	cmd.SetArgs(append(args, "--config", config))
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	return cmd.ExecuteContext(t.Context())
}

func TestAppAddMakesEverythingOfAnApp(t *testing.T) {
	g, out := bareMachine(t)
	add := []string{"add", "blog", "--exec", "node server.js", "--http", "http://127.0.0.1:3000/version", "--shared", "data/", "--socket", "3000"}
	before, _ := os.ReadFile(g.p.config)
	wantCode(t, g.run(t, append(add, "--dry-run")...), deployment.ExitOK)
	after, _ := os.ReadFile(g.p.config)
	if _, err := os.Stat(g.root + "/etc"); err == nil || strings.Contains(out.String(), "<") || string(before) != string(after) {
		t.Errorf("a dry run that did something:\n%s", out)
	}
	for _, want := range []string{
		"make     user blog", "make     /etc/systemd/system/blog.service  (runs /usr/bin/node server.js as blog)",
		"make     /etc/systemd/system/blog.socket  (systemd listens on 127.0.0.1:3000 for blog.service)",
		"+   blog:\n", "+     unit: blog.service\n", "make     /srv/blog/shared/data/  (of blog)", "systemctl enable blog.service", "systemctl start blog.socket",
		"{ fd: 3 } : 3000",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	out.Reset()
	g.dryRun = false
	wantCode(t, g.run(t, add...), deployment.ExitOK)
	got := out.String()
	at := 0
	for _, want := range []string{
		"<useradd --system --user-group --home-dir /srv/blog --no-create-home --shell /usr/sbin/nologin blog>", "<daemon-reload>",
		"<enable blog.service>", "<enable blog.socket>", "<start blog.socket>", "<try-restart towline-agent.service>",
	} {
		i := strings.Index(got[at:], want)
		if i < 0 {
			t.Fatalf("want %s, after what comes before it, in\n%s", want, got)
		}
		at += i
	}
	if strings.Contains(got, "warning") || strings.Contains(got, "advice") {
		t.Errorf("what it has written itself is warned of:\n%s", got)
	}
	text, _ := os.ReadFile(g.p.config)
	if want := string(before) + "  blog:\n    unit: blog.service\n    health:\n      http: http://127.0.0.1:3000/version\n    shared: [data/]\n"; string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	out.Reset()
	inspect := g.inspect
	g.inspect = func(ctx context.Context, unit string) (service.Description, error) {
		d, err := inspect(ctx, unit)
		d.FileState = "enabled"
		return d, err
	}
	wantCode(t, g.run(t, add...), deployment.ExitOK)
	if got := out.String(); !strings.Contains(got, "nothing to do") || strings.Contains(got, "<") {
		t.Errorf("again: got\n%s\nwant nothing to do", got)
	}
}

func TestAppAddLeavesARunningAppToItsNextStart(t *testing.T) {
	g, out := machine(t, shop)
	inspect := g.inspect
	g.inspect = func(ctx context.Context, unit string) (service.Description, error) {
		d, err := inspect(ctx, unit)
		d.ActiveState = "active"
		return d, err
	}
	wantCode(t, g.run(t, "add", "shop", "--socket", "3000"), deployment.ExitOK)
	if got := out.String(); strings.Contains(got, "<start") || !strings.Contains(got, "next: systemctl restart shop.service\n") {
		t.Errorf("got\n%s\nwant the restart left to a person", got)
	}
}

func TestAppAddRefusesFlags(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"another unit":          {[]string{"shop", "--unit", "web.service"}, 2, "--unit says web.service, and the file has shop.service for app shop in "},
		"another directory":     {[]string{"shop", "--dir", "/srv/web"}, 2, "--dir says /srv/web, and the file has /srv/shop"},
		"a probe":               {[]string{"shop", "--http", "http://127.0.0.1/"}, 2, "--http says http://127.0.0.1/, and the file has none"},
		"shared":                {[]string{"shop", "--shared", "x/"}, 2, "--shared says x/, and the file has none"},
		"two of them":           {[]string{"shop", "--tcp", "127.0.0.1:1", "--environment", "staging"}, 2, "--tcp says"},
		"two probes":            {[]string{"blog", "--tcp", "127.0.0.1:1", "--http", "http://127.0.0.1/"}, 2, "the one or the other"},
		"a user alone":          {[]string{"blog", "--unit", "blog.service", "--user", "x"}, 2, "goes with --exec"},
		"a unit that is there":  {[]string{"shop", "--exec", "node x"}, 2, "there is a unit shop.service already"},
		"no program":            {[]string{"blog", "--exec", "ghost x"}, 2, "there is no program ghost"},
		"a shell's line":        {[]string{"blog", "--exec", "node x | tee log"}, 2, "no shell reads it"},
		"root":                  {[]string{"blog", "--exec", "node x", "--user", "root"}, 2, "would be root on this server"},
		"the agent":             {[]string{"blog", "--exec", "node x", "--user", "towline"}, 2, "command the agent"},
		"no name of a user":     {[]string{"9.blog", "--exec", "node x"}, 2, "9.blog cannot be the name of a user"},
		"a bad value":           {[]string{"blog", "--unit", "blog"}, 2, "exit code 2"},
		"a bad socket":          {[]string{"blog", "--exec", "node x", "--socket", "http"}, 2, "want a port"},
		"a socket of no unit":   {[]string{"blog", "--dir", "/srv/blog", "--socket", "3000"}, 2, "no unit that could take it"},
		"no flag of an entry":   {[]string{"blog", "--socket", "3000"}, 4, "has no app blog"},
		"a unit that is absent": {[]string{"blog", "--unit", "blog.service"}, 2, "there is no unit blog.service"},
	} {
		t.Run(name, func(t *testing.T) {
			g, out := bareMachine(t)
			inspect := g.inspect
			g.inspect = func(ctx context.Context, unit string) (service.Description, error) {
				if unit == "shop.service" {
					return goodUnit(), nil
				}
				return inspect(ctx, unit)
			}
			before, _ := os.ReadFile(g.p.config)
			err := g.run(t, append([]string{"add"}, c.args...)...)
			wantCode(t, err, c.code)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			after, _ := os.ReadFile(g.p.config)
			if _, err := os.Stat(g.root + "/etc"); err == nil || strings.Contains(out.String(), "<") || string(before) != string(after) {
				t.Errorf("something was done all the same:\n%s", out)
			}
			if f := (*fault)(nil); name == "two of them" && (!errors.As(err, &f) || len(f.all) != 2) {
				t.Errorf("got %+v, want both", err)
			}
		})
	}
}

func TestAppRemoveTakesAwayWhatAddHasMade(t *testing.T) {
	g, out := bareMachine(t)
	before, _ := os.ReadFile(g.p.config)
	wantCode(t, g.run(t, "add", "blog", "--exec", "node server.js", "--socket", "3000"), deployment.ExitOK)
	unit := g.root + "/etc/systemd/system/blog.service"

	out.Reset()
	wantCode(t, g.run(t, "remove", "blog", "--unit", "--entry", "--dry-run"), deployment.ExitOK)
	if strings.Contains(out.String(), "<") || !strings.Contains(out.String(), "-   blog:\n") {
		t.Errorf("a dry run: got\n%s", out)
	}
	out.Reset()
	wantCode(t, g.run(t, "remove", "blog"), deployment.ExitOK)
	got := out.String()
	for _, want := range []string{"<disable blog.socket>\n", "delete   /etc/systemd/system/blog.socket", "<stop blog.socket>", "is still in", "--entry does that",
		"blog.service has to listen on 127.0.0.1:3000 itself", "/srv/blog with all that is in it stays, and so does blog.service"} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q in\n%s", want, got)
		}
	}
	if strings.Index(got, "<stop blog.socket>") < strings.Index(got, "<daemon-reload>") {
		t.Errorf("the socket is stopped while the unit needs it, which stops the unit:\n%s", got)
	}
	if _, err := os.Stat(unit); err != nil {
		t.Error(err)
	}

	out.Reset()
	text, _ := os.ReadFile(unit)
	if err := os.WriteFile(unit, append(text, "# mine\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	wantCode(t, g.run(t, "remove", "blog", "--unit", "--entry"), deployment.ExitOK)
	if after, _ := os.ReadFile(g.p.config); string(after) != string(before) {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	if _, err := os.Stat(unit); err != nil || !strings.Contains(out.String(), "somebody has changed it") {
		t.Errorf("a changed unit: %v\n%s", err, out)
	}
	out.Reset()
	if err := os.WriteFile(unit, text, 0o644); err != nil {
		t.Fatal(err)
	}
	wantCode(t, g.run(t, "remove", "blog", "--unit"), deployment.ExitOK)
	if _, err := os.Stat(unit); err == nil || !strings.Contains(out.String(), "<disable --now blog.service>") {
		t.Errorf("an unchanged unit is still there:\n%s", out)
	}
	wantCode(t, g.run(t, "remove", "blog"), deployment.ExitUnknown)
	wantCode(t, g.run(t, "remove", "shop", "--entry"), deployment.ExitUsage) // the only one
}

func TestAppAddAdoptRefuses(t *testing.T) {
	from := t.TempDir()
	if err := os.Chmod(from, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from, "server"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		apps string
		args []string
		want string
	}{
		"no version for the health check": {"  shop: {unit: shop.service, health: {http: \"http://127.0.0.1/\", expect: \"{{hash}}\"}}\n", []string{"--adopt", from}, "expects the release's hash"},
		"a relative path":                 {shop, []string{"--adopt", "shop"}, "want the absolute path"},
		"nothing there":                   {shop, []string{"--adopt", from + "/absent"}, "no such file"},
		"a version alone":                 {shop, []string{"--adopt-version", "v1"}, "goes with --adopt"},
	} {
		g, out := machine(t, c.apps)
		err := g.run(t, append([]string{"add", "shop"}, c.args...)...)
		wantCode(t, err, deployment.ExitUsage)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if _, err := os.Stat(g.root); err == nil {
			t.Errorf("%s: something was done all the same:\n%s", name, out)
		}
	}
	g, out := machine(t, shop)
	wantCode(t, g.run(t, "add", "shop", "--adopt", from, "--dry-run"), deployment.ExitOK)
	if info, err := os.Lstat(from); err != nil || !info.IsDir() || !strings.Contains(out.String(), "switch   "+from) || !strings.Contains(out.String(), "mv "+from+".before-towline") {
		t.Errorf("a dry run: got %v, %v\n%s", info, err, out)
	}
}
