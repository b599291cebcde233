package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// Server is what is looked at on a server.
type Server struct {
	Machine
	Settings config.Settings
	Only     string // the one app that is meant; empty: all
	Socket   string
	// Unread says that there are no Settings, since the file is not for us: what is left is what the agent says.
	Unread bool

	report *Report
	peer   *Peer // nil: the agent does not answer
	sudo   bool
}

// again is the command that sees what we do not.
func (s *Server) again() string { return "sudo towline doctor" }

// Run looks at everything. It takes as long as the bucket and the agent need to answer, each of them bounded.
func (s *Server) Run(ctx context.Context, r *Report) {
	s.report = r
	s.sudo = s.UID != 0
	here := topic{r: r}
	all := s.agent(ctx, here)
	s.system(ctx, here)
	if s.Unread {
		for _, receipt := range all.Apps {
			s.life(topic{r, receipt.App}, receipt, 0)
		}
		return
	}
	s.secrets(here)
	s.port(ctx, here)
	s.state(here)
	apps := slices.DeleteFunc(slices.Clone(s.Settings.Apps), func(a config.App) bool { return s.Only != "" && a.Key != s.Only })
	store := s.open(ctx, here)
	for _, app := range apps {
		t := topic{r, app.Key}
		known := s.pointer(ctx, t, store, app)
		s.rights(ctx, t, store, app, known)
		s.disk(t, app, known)
		short, cancel := context.WithTimeout(ctx, patience) // neither systemd nor the agent may hold us up
		s.granted(short, t, app)
		s.known(short, t, app)
		cancel()
	}
}

// patience is how long systemd, and the agent, may take to answer.
const patience = 30 * time.Second

// agent asks the agent whether it is there, and who it is.
func (s *Server) agent(ctx context.Context, t topic) deployment.Overview {
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	all, err := s.Overview(short)
	switch {
	case errors.Is(err, fs.ErrPermission):
		t.unseen("agent", s.again(), "only root and the group %s may ask it at %s", agentUser, s.Socket)
		return all
	case err != nil:
		t.fail("agent", "sudo systemctl enable --now "+agentUnit+" && journalctl --unit "+agentUnit+" --lines 20 --no-pager", "%v", err)
		return all
	}
	if p, err := s.Peer(short, s.Socket); err == nil {
		s.peer = &p
	}
	for _, r := range all.Apps {
		if r.AgentVersion != release.Version {
			t.warn("agent", "sudo systemctl restart "+agentUnit, "it answers at %s and is version %s, this command is %s",
				s.Socket, cmp.Or(r.AgentVersion, "unknown"), release.Version)
			return all
		}
	}
	t.ok("agent", "it answers at %s, version %s like this command, %s", s.Socket, release.Version, counted(len(all.Apps), "app"))
	return all
}

// system looks at what the whole machine gives the agent.
func (s *Server) system(ctx context.Context, t topic) {
	version, err := s.Systemd(ctx)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		if slices.ContainsFunc(s.Settings.Apps, func(a config.App) bool { return a.Unit != "" }) {
			t.fail("systemd", "apt-get install systemd", noSystemd+", and apps have units")
		} else {
			t.ok("systemd", noSystemd+", and no app has a unit")
		}
	case err != nil:
		t.unseen("systemd", "systemctl --version", "%v", err)
	case version < 247:
		t.warn("systemd", "cat /etc/os-release", "version %d; the agent's unit is made for 247 and newer (Debian 11, Ubuntu 22.04): "+
			"parts of its sandbox and LoadCredential= do nothing here", version)
	default:
		t.ok("systemd", "version %d", version)
	}
	if err == nil {
		s.service(ctx, t)
	}
	s.user(t)
	synced, err := s.Synced()
	switch {
	case err != nil:
		t.unseen("time sync", "timedatectl", "%v", err)
	case !synced:
		t.warn("time sync", "sudo timedatectl set-ntp true", "nobody keeps this clock: a bucket refuses requests that are 15 minutes off")
	default:
		t.ok("time sync", "the clock is kept")
	}
}

// service looks at the agent's unit.
func (s *Server) service(ctx context.Context, t topic) {
	d, err := s.Inspect(ctx, agentUnit)
	switch {
	case err != nil:
		t.unseen("service", "systemctl status "+agentUnit, "%v", err)
	case d.LoadState != "loaded":
		t.warn("service", "curl -fsSL https://github.com/towline/towline/releases/latest/download/install.sh | sh",
			"systemd has no %s: after a restart of the machine nobody starts the agent", agentUnit)
	case d.Stale:
		t.warn("service", "sudo systemctl daemon-reload && sudo systemctl restart "+agentUnit, "files of %s have changed since systemd read them", agentUnit)
	case d.FileState == "disabled":
		t.warn("service", "sudo systemctl enable "+agentUnit, "%s is disabled and will not start with the machine", agentUnit)
	case d.ActiveState != "active":
		t.fail("service", "sudo systemctl restart "+agentUnit+"; journalctl --unit "+agentUnit+" --lines 20 --no-pager", "%s is %s", agentUnit, d.ActiveState)
	default:
		t.ok("service", "%s is %s and %s", agentUnit, d.ActiveState, cmp.Or(d.FileState, "enabled"))
	}
}

// user looks at whom the agent runs as.
func (s *Server) user(t topic) {
	switch {
	case s.peer == nil:
		t.unseen("user", "sudo systemctl start "+agentUnit, "whom the agent runs as is known once it answers")
		return
	case s.peer.UID == 0:
		t.warn("user", "sudo apt-get install polkitd && for app in "+s.keys()+"; do sudo towline app add $app; done",
			"the agent runs as root: whoever takes it over has taken the server")
		return // and reads every journal
	case s.peer.User != agentUser:
		t.warn("user", "sudo systemctl enable --now "+agentUnit, "the agent runs as %s, not as %s of the package", s.peer.User, agentUser)
	default:
		t.ok("user", "the agent runs as %s", s.peer.User)
	}
	if slices.Contains(s.peer.Groups, "systemd-journal") {
		t.ok("journal", "the agent may read what apps log")
		return
	}
	t.warn("journal", "sudo usermod --append --groups systemd-journal "+word(s.peer.User)+" && sudo systemctl restart "+agentUnit,
		"the agent is not in group systemd-journal: it cannot show the last lines of an app that fails")
}

// keys are the names of the apps that have a unit.
func (s *Server) keys() string {
	var keys []string
	for _, a := range s.Settings.Apps {
		keys = append(keys, a.Key)
	}
	return cmp.Or(strings.Join(keys, " "), "NAME")
}

// secrets looks at what the configuration itself keeps.
func (s *Server) secrets(t topic) {
	if len(s.Settings.Notify) == 0 {
		return
	}
	edit := "sudoedit " + word(s.Settings.Path)
	for _, n := range s.Settings.Notify {
		if !strings.HasPrefix(n.Webhook.Reveal(), "https://") {
			t.warn("webhooks", edit, "a webhook is not https: whoever is on the way reads its secret")
			return
		}
	}
	if info, err := os.Stat(s.Settings.Path); err == nil && info.Mode().Perm()&0o004 != 0 {
		t.warn("webhooks", "sudo chmod o= "+word(s.Settings.Path), "everyone on this machine may read %s, and its webhooks are secrets", s.Settings.Path)
		return
	}
	t.ok("webhooks", "%s, https, closed to others", counted(len(s.Settings.Notify), "webhook"))
}

// state looks at the disk that the agent remembers on.
func (s *Server) state(t topic) {
	s.room(t, "state", s.Settings.State, 16<<20, 100, "df -h "+word(s.Settings.State)+"; sudo journalctl --vacuum-size=200M")
}

// disk looks at the disk of an app, against what the release that should be live needs.
func (s *Server) disk(t topic, app config.App, known release.Pointer) {
	need := Space{Free: known.Artifact.UnpackedSize + 64<<20, Inodes: known.Artifact.Entries + 100}
	s.room(t, "disk", app.Dir, need.Free, need.Inodes, fmt.Sprintf("towline prune %s --keep 2; df -h %s", app.Key, word(app.Dir)))
}

func (s *Server) room(t topic, name, path string, bytes, inodes int64, fix string) {
	have, err := s.Space(path)
	if err != nil {
		t.unseen(name, s.again(), "%v", err)
		return
	}
	text := fmt.Sprintf("%s free in %s", size(have.Free), path)
	if have.Inodes >= 0 {
		text = fmt.Sprintf("%s and %d inodes free in %s", size(have.Free), have.Inodes, path)
	}
	need := fmt.Sprintf("; a release needs %s and %d inodes", size(bytes), inodes)
	if name == "state" {
		need = fmt.Sprintf("; the record wants %s", size(bytes))
	}
	switch {
	case have.Free < bytes || have.Inodes >= 0 && have.Inodes < inodes:
		t.fail(name, fix, "%s", text+need)
	case have.Free < 2*bytes || have.Inodes >= 0 && have.Inodes < 2*inodes:
		t.warn(name, fix, "%s", text+need)
	default:
		t.ok(name, "%s", text)
	}
}
