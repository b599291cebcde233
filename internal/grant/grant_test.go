package grant

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/towline/towline/test/parts"
)

// owners returns two users to give things to: as root two that are not root, otherwise us twice.
func owners(t *testing.T) (agent, app Owner) {
	t.Helper()
	if os.Geteuid() != 0 {
		me := Owner{User: "me", Group: "me", UID: os.Getuid(), GID: os.Getgid()}
		return me, me
	}
	find := func(name string) Owner {
		u, err := user.Lookup(name)
		if err != nil {
			parts.Skip(t, "user "+name)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		return Owner{User: name, Group: name, UID: uid, GID: gid}
	}
	return find("daemon"), find("nobody")
}

func newApp(t *testing.T) App {
	t.Helper()
	agent, runs := owners(t)
	return App{
		Key: "shop", Dir: "/srv/shop", Unit: "web.service", Agent: agent, User: runs, Groups: []int{runs.GID},
		Shared: []string{".env", "uploads/", "var/cache/"}, BeforeActivate: []string{"./bin/migrate"},
	}
}

func apply(t *testing.T, p Plan, err error) (done []string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(func(c Change) { done = append(done, string(c.Action)+" "+c.Path) }); err != nil {
		t.Fatal(err)
	}
	return done
}

func wantMode(t *testing.T, path string, owner Owner, mode fs.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Error(err)
		return
	}
	st := info.Sys().(*syscall.Stat_t)
	if info.Mode().Perm() != mode || int(st.Uid) != owner.UID || int(st.Gid) != owner.GID {
		t.Errorf("%s: got %v of %d:%d, want %v of %d:%d", path, info.Mode().Perm(), st.Uid, st.Gid, mode, owner.UID, owner.GID)
	}
}

func TestAddMakesEverythingWhateverTheUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	root, app := t.TempDir(), newApp(t)
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	plan, err := Add(root, app)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(root + "/srv"); err == nil {
		t.Error("the plan alone has made something")
	}
	done := apply(t, plan, err)
	if got, want := len(done), plan.Todo(); got != want || got != 11 {
		t.Errorf("got %d changes, planned %d, want 11: %q", got, want, done)
	}
	for path, want := range map[string]struct {
		owner Owner
		mode  fs.FileMode
	}{
		"": {app.Agent, 0o755}, "releases": {app.Agent, 0o755}, "incoming": {app.Agent, 0o700},
		"shared": {app.User, 0o755}, "shared/.env": {app.User, 0o640}, "shared/uploads": {app.User, 0o755},
		"shared/var": {app.User, 0o755}, "shared/var/cache": {app.User, 0o755},
	} {
		wantMode(t, filepath.Join(root, app.Dir, path), want.owner, want.mode)
	}
	me := Owner{UID: os.Getuid(), GID: os.Getgid()}
	for _, path := range []string{app.dropInPath(), app.rulePath(), app.programsPath()} {
		wantMode(t, root+path, me, 0o644)
	}
	wantMode(t, root+"/srv", me, 0o755)
	if plan, err := Add(root, app); err != nil || plan.Todo() != 0 || len(plan.Changes) != 11 {
		t.Errorf("again: got %v, %v, want nothing to do", plan.Changes, err)
	}
}

// An app that has no hooks any more loses the right to run them: the name of a unit that does not exist would be free.
func TestAddFollowsTheConfiguration(t *testing.T) {
	root, app := t.TempDir(), newApp(t)
	plan, err := Add(root, app)
	apply(t, plan, err)
	app.BeforeActivate = nil
	plan, err = Add(root, app)
	done := apply(t, plan, err)
	want := []string{"replace " + app.rulePath(), "delete " + app.programsPath()}
	if fmt.Sprint(done) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", done, want)
	}
	if rule, _ := os.ReadFile(root + app.rulePath()); strings.Contains(string(rule), "towline-app-") {
		t.Errorf("the rule still names instances:\n%s", rule)
	}
}

func TestAddWithoutAUnitGrantsNoRestart(t *testing.T) {
	root, app := t.TempDir(), newApp(t)
	app.Unit, app.User = "", app.Agent
	plan, err := Add(root, app)
	apply(t, plan, err)
	if _, err := os.Stat(root + ruleDir); err == nil {
		t.Error("there is a polkit rule although there is no unit")
	}
	if _, err := os.Stat(root + app.programsPath()); err == nil {
		t.Error("there is a unit for programs although the agent runs them")
	}
}

func TestAsRootInsteadOfARule(t *testing.T) {
	root, app := t.TempDir(), newApp(t)
	app.AsRoot = true
	plan, err := Add(root, app)
	apply(t, plan, err)
	if text, err := os.ReadFile(root + rootDropIn); err != nil || !strings.Contains(string(text), "\nUser=root\n") {
		t.Errorf("got %q, %v, want a drop-in that makes the agent root", text, err)
	}
	if _, err := os.Stat(root + ruleDir); err == nil {
		t.Error("there is a rule that polkit does not understand")
	}
	other := app
	other.Key, other.Dir = "blog", "/srv/blog"
	plan, err = Add(root, other)
	apply(t, plan, err)
	plan, err = Remove(root, "shop")
	if done := apply(t, plan, err); fmt.Sprint(done) != "[delete "+app.dropInPath()+"]" {
		t.Errorf("got %q, want the agent to stay root for the other app", done)
	}
	plan, err = Remove(root, "blog")
	if done := apply(t, plan, err); len(done) != 2 {
		t.Errorf("got %q, want all of it gone with the last app", done)
	}

	// polkit was renewed: the next grant takes root from the agent.
	plan, err = Add(root, app)
	apply(t, plan, err)
	app.AsRoot = false
	plan, err = Add(root, app)
	if done := apply(t, plan, err); fmt.Sprint(done) != "[delete "+rootDropIn+" make "+app.rulePath()+" make "+app.programsPath()+"]" {
		t.Errorf("got %q", done)
	}
}

func TestRemoveTakesAwayWhatAddWrote(t *testing.T) {
	root, app := t.TempDir(), newApp(t)
	plan, err := Add(root, app)
	apply(t, plan, err)
	mine := root + dropInDir + "/mine.conf"
	if err := os.WriteFile(mine, []byte("[Service]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	plan, err = Remove(root, app.Key)
	if done := apply(t, plan, err); len(done) != 3 {
		t.Errorf("got %q, want three files gone", done)
	}
	for _, path := range []string{mine, root + app.Dir + "/shared/uploads", root + app.Dir + "/releases"} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if plan, err := Remove(root, app.Key); err != nil || len(plan.Changes) != 0 {
		t.Errorf("again: got %v, %v, want nothing", plan.Changes, err)
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	root, app := t.TempDir(), newApp(t)
	path := root + app.dropInPath()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("[Service]\nNice=5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const want = "was not written by towline app add"
	if _, err := Add(root, app); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("add: got %v, want %q", err, want)
	}
	if _, err := Remove(root, app.Key); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("remove: got %v, want %q", err, want)
	}
}

// setUp makes paths below the app's directory: a slash at the end is a directory, an arrow a link, others are files.
func setUp(t *testing.T, dir string, paths ...string) {
	t.Helper()
	for _, path := range paths {
		name, to, link := strings.Cut(path, " -> ")
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case link:
			err = os.Symlink(to, full)
		case strings.HasSuffix(path, "/"):
			err = os.MkdirAll(full, 0o755)
		default:
			err = os.WriteFile(full, nil, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestPlacesThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		name string
		make []string
		tune func(*App)
		want string
	}{
		{"link for releases", []string{"releases -> /etc"}, nil, "symbolic link"},
		{"link for the directory", nil, func(a *App) { a.Dir = "/srv/link" }, "symbolic link"},
		{"link on the way", nil, func(a *App) { a.Dir = "/home/shop" }, "the agent sees nothing of /home"},
		{"temporary", nil, func(a *App) { a.Dir = "/var/tmp/shop" }, "the agent sees nothing of /var/tmp"},
		{"root directory", nil, func(a *App) { a.Dir = "/" }, "absolute path"},
		{"line break", nil, func(a *App) { a.Dir = "/srv/a\nUser=root" }, "control characters"},
		{"file for a directory", []string{"shared/uploads"}, nil, "shared/uploads/ is not a directory"},
		{"directory for a file", []string{"shared/.env/"}, nil, "write shared: [.env/]"},
		{"NUL", nil, func(a *App) { a.Probe = []string{"a", "\x00"} }, "NUL"},
		{"option", nil, func(a *App) { a.Probe = []string{"-c"} }, "option"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root, app := t.TempDir(), newApp(t)
			setUp(t, root+app.Dir, test.make...)
			if err := os.Symlink("shop", root+"/srv/link"); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			} else if err != nil {
				setUp(t, root+"/srv", "link -> shop")
			}
			if test.tune != nil {
				test.tune(&app)
			}
			if _, err := Add(root, app); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestLinkInSharedIsTheAdministrators(t *testing.T) {
	root, app := t.TempDir(), newApp(t)
	setUp(t, root+app.Dir, "shared/uploads -> /mnt/uploads", "shared/var -> ../../elsewhere")
	plan, err := Add(root, app)
	apply(t, plan, err)
	if to, err := os.Readlink(root + app.Dir + "/shared/uploads"); err != nil || to != "/mnt/uploads" {
		t.Errorf("got %q, %v, want the link untouched", to, err)
	}
	if _, err := os.Lstat(root + "/srv/elsewhere"); err == nil {
		t.Error("something was made through a link")
	}
}

// What a script or another agent left must not stay changeable for the app.
func TestReleasesOfOthersAreMended(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, for files of several users")
	}
	root, app := t.TempDir(), newApp(t)
	dir := root + app.Dir
	setUp(t, dir, "releases/1-abc/app.js", "releases/1-abc/lib/", "releases/1-abc/link -> ../../../etc/passwd", "lock", "shared/uploads/a", "outside")
	for _, path := range []string{"releases/1-abc/app.js", "releases/1-abc/lib", "releases/1-abc/link", "shared/uploads", "outside"} {
		if err := os.Lchown(filepath.Join(dir, path), app.User.UID, app.User.GID); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir+"/releases/1-abc", 0o777); err != nil {
		t.Fatal(err)
	}
	plan, err := Add(root, app)
	apply(t, plan, err)
	wantMode(t, dir+"/releases/1-abc", app.Agent, 0o755)
	wantMode(t, dir+"/releases/1-abc/app.js", app.Agent, 0o644)
	wantMode(t, dir+"/releases/1-abc/lib", app.Agent, 0o755)
	wantMode(t, dir+"/lock", app.Agent, 0o644)
	wantMode(t, dir+"/outside", app.User, 0o644)
	if info, err := os.Lstat(dir + "/releases/1-abc/link"); err != nil || info.Sys().(*syscall.Stat_t).Uid != uint32(app.Agent.UID) {
		t.Errorf("the link was not given away: %v", err)
	}
	if plan, err := Add(root, app); err != nil || plan.Todo() != 0 {
		t.Errorf("again: got %v, %v, want nothing to do", plan.Changes, err)
	}

	// A second name of a file could be anything.
	setUp(t, dir, "passwd")
	if err := os.Link(dir+"/passwd", dir+"/releases/1-abc/passwd"); err != nil {
		t.Fatal(err)
	}
	plan, err = Add(root, app)
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Apply(func(Change) {}); err == nil || !strings.Contains(err.Error(), "hard links") {
		t.Errorf("got %v, want the hard link refused", err)
	}
	wantMode(t, dir+"/passwd", Owner{}, 0o644)
}

func TestDirectoryThatTheAppCouldExchange(t *testing.T) {
	if os.Geteuid() != 0 {
		parts.Skip(t, "root, for files of several users")
	}
	for _, test := range []struct {
		name     string
		mode     fs.FileMode
		uid, gid func(App) int
		want     string
	}{
		{"the app's", 0o755, func(a App) int { return a.User.UID }, nil, "/srv/apps belongs to nobody"},
		{"of its group", 0o775, nil, func(a App) int { return a.User.GID }, "/srv/apps is writable for a group of nobody"},
		{"everybody's", 0o777, nil, nil, "/srv/apps is writable for everybody"},
		{"sticky", 0o777 | fs.ModeSticky, nil, nil, ""},
		{"root's", 0o755, nil, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			root, app := t.TempDir(), newApp(t)
			app.Dir = "/srv/apps/shop"
			setUp(t, root+"/srv/apps", "./")
			uid, gid := 0, 0
			if test.uid != nil {
				uid = test.uid(app)
			}
			if test.gid != nil {
				gid = test.gid(app)
			}
			if err := os.Chown(root+"/srv/apps", uid, gid); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(root+"/srv/apps", test.mode); err != nil {
				t.Fatal(err)
			}
			_, err := Add(root, app)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
