package doctor

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// granted looks at an app's unit and at what the agent may do with it.
func (s *Server) granted(ctx context.Context, t topic, app config.App) {
	g, err := s.Grants(ctx, app)
	add := "sudo towline app add " + app.Key
	if err != nil {
		t.unseen("unit", add+" --dry-run", "%v", err)
		return
	}
	for _, f := range g.Findings {
		t.r.add(Check{Name: "unit", App: t.app, Level: f.Level, Found: f.Text, Fix: unitFix(app.Unit, f.Text)})
	}
	switch {
	case len(g.Findings) > 0:
	case app.Unit != "":
		t.ok("unit", "%s runs as %s and follows %s/current", app.Unit, g.User, app.Dir)
	case app.Restart != nil:
		t.ok("unit", "none: the agent runs %s", strings.Join(app.Restart, " "))
	default:
		t.ok("unit", "none: files only")
	}
	s.running(ctx, t, app)
	switch {
	case g.Unseen != nil:
		t.unseen("grant", s.again(), "%v", g.Unseen)
	case len(g.Missing) > 0:
		t.fail("grant", add, "not granted: %s", strings.Join(g.Missing, "; "))
	default:
		t.ok("grant", "directories and drop-in%s are as towline app add makes them", rule(app, g))
	}
	if s.peer == nil || s.peer.PID == 0 {
		return
	}
	if app.Unit != "" && !g.AsRoot && s.peer.UID != 0 {
		s.polkit(ctx, t, app, add)
	}
	s.sandbox(t, app)
}

func rule(app config.App, g Grants) string {
	if app.Unit == "" || g.AsRoot {
		return ""
	}
	return " and polkit rule"
}

// unitFix is the command that a finding about a unit asks for; most ask for another line in it.
func unitFix(unit, text string) string {
	for _, command := range []string{"systemctl enable ", "systemctl unmask ", "systemd-analyze verify ", "gpasswd --delete ", "apt-get install "} {
		if _, rest, ok := strings.Cut(text, command); ok {
			words := strings.Fields(strings.Split(strings.Split(rest, ";")[0], ",")[0])
			return "sudo " + command + strings.Join(words, " ")
		}
	}
	if unit == "" {
		return "sudoedit /etc/towline/agent.yaml"
	}
	if strings.Contains(text, "write /etc/systemd/system/") {
		return "sudoedit /etc/systemd/system/" + unit + " && sudo systemctl daemon-reload"
	}
	if strings.Contains(text, "has no health check") {
		return "sudoedit /etc/towline/agent.yaml"
	}
	return "sudo systemctl edit " + unit
}

// running looks whether a live app's unit runs.
func (s *Server) running(ctx context.Context, t topic, app config.App) {
	if app.Unit == "" {
		return
	}
	d, err := s.Inspect(ctx, app.Unit)
	switch {
	case err != nil:
		t.unseen("running", "systemctl status "+app.Unit, "%v", err)
	case d.LoadState != "loaded": // said above
	case d.ActiveState == "active":
		t.ok("running", "%s is active", app.Unit)
	case d.ActiveState == "inactive":
		t.warn("running", "sudo systemctl start "+app.Unit, "%s is inactive; it starts with the first release", app.Unit)
	default:
		t.fail("running", "journalctl --unit "+app.Unit+" --lines 50 --no-pager", "%s is %s", app.Unit, d.ActiveState)
	}
}

// polkit looks whether the rule has taken effect.
func (s *Server) polkit(ctx context.Context, t topic, app config.App, add string) {
	if s.sudo {
		t.unseen("polkit", s.again(), "only root may ask polkit what others may do")
		return
	}
	switch may, err := s.MayRestart(ctx, *s.peer, app.Unit); {
	case err != nil:
		t.unseen("polkit", "apt-get install polkitd", "%v", err)
	case !may:
		t.fail("polkit", add+" && sudo systemctl restart polkit", "polkit does not let the agent restart %s", app.Unit)
	default:
		t.ok("polkit", "it lets the agent restart %s", app.Unit)
	}
}

// sandbox looks whether the running agent can write where the app lies.
func (s *Server) sandbox(t topic, app config.App) {
	if s.sudo {
		t.unseen("sandbox", s.again(), "only root sees what the agent sees")
		return
	}
	switch closed, err := s.ReadOnly(*s.peer, app.Dir); {
	case err != nil:
		t.unseen("sandbox", "sudo towline app add "+app.Key, "%v", err)
	case closed:
		t.fail("sandbox", "sudo towline app add "+app.Key+" && sudo systemctl restart "+agentUnit, "%s is read-only for the agent that runs now", app.Dir)
	default:
		t.ok("sandbox", "the agent sees %s as writable", app.Dir)
	}
}

// known is what the agent says of the app.
func (s *Server) known(ctx context.Context, t topic, app config.App) {
	detail, err := s.Detail(ctx, app.Key)
	if err != nil {
		t.unseen("contact", "towline status "+app.Key, "%v", err)
		return
	}
	s.life(t, detail.Receipt, s.Settings.Poll)
	var changed, onDisk int
	live := ""
	for _, v := range detail.Drift {
		if changed++; v.Live {
			live = v.Name
		}
	}
	for _, r := range detail.Releases {
		if r.OnDisk {
			onDisk++
		}
	}
	switch {
	case live != "":
		t.fail("releases", "towline verify "+app.Key+"; towline deploy "+app.Key+" --force", "release %s is live and is not as it was unpacked", live)
	case changed > 0:
		t.warn("releases", "towline verify "+app.Key, "%s on disk changed since it was unpacked; a rollback fetches it again", counted(changed, "release"))
	default:
		t.ok("releases", "%d on disk, none known to have changed", onDisk)
	}
}

// life looks at the last contact, a hold, and how the last deployment went. poll is 0 where it is not known.
func (s *Server) life(t topic, r deployment.Receipt, poll time.Duration) {
	const unpublished = "nothing is published yet"
	app := t.app
	seen, err := time.Parse(time.RFC3339, r.Seen)
	since := s.Now().Sub(seen)
	limit := max(10*time.Minute, 5*poll)
	log := "journalctl --unit " + agentUnit + " --lines 20 --no-pager"
	status := r.Status
	if r.Held != "" && strings.HasPrefix(status, "on hold: ") {
		status = ""
	}
	switch {
	case strings.HasPrefix(status, unpublished):
		t.ok("contact", "%s", status)
	case err != nil:
		t.fail("contact", log, "the agent has not read the pointer yet: %s", cmp.Or(status, "it does not say why"))
	case since > limit:
		t.fail("contact", log, "the pointer was read last %s ago: %s", ago(since), cmp.Or(status, "it does not say why"))
	case status != "":
		t.warn("contact", "towline status "+app, "the pointer was read %s ago; %s", ago(since), status)
	default:
		t.ok("contact", "the pointer was read %s ago", ago(since))
	}
	if r.Held != "" {
		t.warn("hold", "towline resume "+app, "new pointers are not followed: %s", r.Held)
	}
	d := r.Deployment
	if d == nil || d.Outcome == "" {
		return
	}
	name := fmt.Sprintf("#%d %s", d.Seq, release.ShortHash(d.Hash))
	when := ""
	if at, err := time.Parse(time.RFC3339, d.Finished); err == nil {
		when = ", " + ago(s.Now().Sub(at)) + " ago"
	}
	why := strings.TrimSuffix(": "+d.Reason, ": ")
	switch d.Outcome {
	case deployment.Broken:
		t.fail("last deployment", "towline logs "+app+"; towline rollback "+app, "broken %s%s%s: what was live before does not work either", name, when, why)
	case deployment.RolledBack:
		t.warn("last deployment", "towline status "+app+"; towline deploy "+app+" --force", "rolled back from %s%s%s; it is not tried again by itself", name, when, why)
	case deployment.Failed, deployment.TimedOut:
		t.warn("last deployment", "towline status "+app+"; towline deploy "+app, "failed %s%s%s", name, when, why)
	default:
		t.ok("last deployment", "%s %s%s", d.Outcome, name, when)
	}
}
