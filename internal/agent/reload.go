package agent

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/towline/towline/internal/agent/outbox"
	"github.com/towline/towline/internal/agent/port"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// reloading is how the daemon comes to another configuration, and what became of the last attempt.
type reloading struct {
	signals <-chan os.Signal // each asks for a reload; nil: only Reload does
	asked   chan chan error

	loaded   time.Time
	refused  time.Time // zero: the file could be used when it was read last
	problem  error     // why it could not
	pending  []string  // what waits for a restart
	original config.Settings
}

// Reload reads the configuration again, as SIGHUP does, and has the daemon take it up. When it returns, new apps have been
// started and those that are gone or changed have been told to leave, which they do when their deployment has ended. An
// error says that the file cannot be used; then everything is as before.
func (a *Agent) Reload() error {
	answer := make(chan error, 1)
	select {
	case a.reloads.asked <- answer:
		return <-answer
	case <-a.over:
		return errors.New("the agent has stopped")
	}
}

// reload is Reload, in the goroutine that supervises.
func (l *life) reload(c *crew) error {
	now := l.now.Load()
	next, cert, pending, err := l.prepare(now)
	l.mu.Lock()
	l.reloads.problem, l.reloads.refused = err, time.Time{}
	if err != nil {
		l.reloads.refused = time.Now()
	} else {
		l.reloads.loaded, l.reloads.pending = time.Now(), pending
	}
	l.mu.Unlock()
	if err != nil {
		l.complain(now, err)
		return err
	}
	if problem := exposed(next.settings); problem != "" {
		l.log.Warn(problem)
	}
	for _, line := range pending {
		l.log.Warn(line)
	}
	if cert != nil {
		l.cert.Store(cert)
	}
	if !sameNotify(now.settings, next.settings) {
		n := outbox.NewNotices(next.settings.Notify, next.settings.Server, l.log)
		for _, one := range now.apps {
			if engine, _, err := one.now(); err == nil {
				for _, record := range slices.Backward(engine.Detail().Deployments) {
					for _, event := range record.Events {
						n.Remember(one.Key, event)
					}
				}
			}
		}
		l.notices.Store(n)
		c.notify(n)
	}
	next.outside, next.inside = next.public(), next.private()
	l.now.Store(next)
	l.board.another()
	l.relieve(c, now, next)
	return nil
}

// relieve has the apps of one configuration take the places of those of the one before.
func (l *life) relieve(c *crew, before, after *Agent) {
	var added, changed, removed []string
	for _, one := range before.apps {
		if _, there := after.app(one.Key); !there {
			removed = append(removed, one.Key)
			one.hand(nil)
		}
	}
	kept := 0
	for _, one := range after.apps {
		switch old, there := before.app(one.Key); {
		case old == one:
			kept++
			if engine, _, _ := one.now(); engine == nil {
				one.knock() // what kept it from being ready may have been mended
			}
			continue
		case there:
			changed = append(changed, one.Key)
		default:
			added = append(added, one.Key)
		}
		c.man(one, false)
	}
	l.log.Info("the configuration was read again", "apps", len(after.apps), "added", strings.Join(added, " "),
		"removed", strings.Join(removed, " "), "changed", strings.Join(changed, " "), "kept", kept)
}

// app is the app with this key.
func (a *Agent) app(key string) (*app, bool) {
	i := slices.IndexFunc(a.apps, func(one *app) bool { return one.Key == key })
	if i < 0 {
		return nil, false
	}
	return a.apps[i], true
}

// prepare reads the file and makes of it all that may fail. cert is nil when the one in use stays.
func (l *life) prepare(now *Agent) (next *Agent, cert *port.Certificate, pending []string, err error) {
	s, err := config.Load(now.settings.Path)
	if err != nil {
		return nil, nil, nil, err
	}
	pending = l.hold(&s)
	if next, err = l.under(s, now); err != nil {
		return nil, nil, nil, err
	}
	if s.TLS != now.settings.TLS && l.cert.Load() != nil {
		if cert, err = certificate(s, l.log); err != nil {
			return nil, nil, nil, err
		}
	}
	return next, cert, pending, nil
}

// hold gives settings that cannot be taken up the values of those that the daemon was started with, and says so of each.
func (l *life) hold(s *config.Settings) (pending []string) {
	was := l.reloads.original
	wait := func(key string, changed bool) bool {
		if changed {
			pending = append(pending, key+": changed; takes effect after systemctl restart towline-agent")
		}
		return changed
	}
	if wait("listen", s.Listen != was.Listen) {
		s.Listen = was.Listen
	}
	if wait("tls", was.Listen != "" && (s.TLS.Mode == config.TLSOff) != (was.TLS.Mode == config.TLSOff)) {
		s.TLS = was.TLS
	}
	if wait("state", s.State != was.State) {
		s.State = was.State
	}
	if wait("socket", s.Socket != was.Socket) {
		s.Socket = was.Socket
	}
	return pending
}

// complain logs every problem of a file that cannot be used.
func (l *life) complain(now *Agent, err error) {
	problems := problemsOf(err)
	for _, p := range problems {
		l.log.Error("configuration: "+p.Message, "file", now.settings.Path, "line", p.Line)
	}
	if len(problems) == 0 {
		l.log.Error("configuration: "+err.Error(), "file", now.settings.Path)
	}
	l.log.Error("the configuration cannot be used; the agent runs on by the one before", "file", now.settings.Path)
}

func problemsOf(err error) (list []deployment.ConfigProblem) {
	if wrong := (*config.Error)(nil); errors.As(err, &wrong) {
		for _, p := range wrong.Problems {
			list = append(list, deployment.ConfigProblem{Line: p.Line, Message: p.Message})
		}
	}
	return list
}

func sameNotify(a, b config.Settings) bool {
	return a.Server == b.Server && slices.EqualFunc(a.Notify, b.Notify, func(x, y config.Notify) bool {
		return x.Webhook == y.Webhook && slices.Equal(x.On, y.On)
	})
}

// status is what GET /v1/agent answers.
func (a *Agent) status() deployment.Agent {
	when := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	out := deployment.Agent{
		Version: release.Version, Server: a.settings.Server, Started: when(a.started), Listen: a.Addr(), Pin: a.Pin(),
		Apps: []string{}, Leaving: []string{},
	}
	for _, one := range a.apps {
		out.Apps = append(out.Apps, one.Key)
	}
	l := a.life
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, one := range l.lanes {
		if _, there := a.app(key); !there && one.busy() {
			out.Leaving = append(out.Leaving, key)
		}
	}
	slices.Sort(out.Leaving)
	r := l.reloads
	out.Config = deployment.Config{
		Path: a.settings.Path, Loaded: when(r.loaded), SHA256: a.settings.Digest, Refused: when(r.refused),
		Problems: problemsOf(r.problem), Pending: r.pending,
	}
	switch n := len(out.Config.Problems); {
	case r.problem == nil:
	case n == 1:
		out.Config.Error = "1 problem"
	case n > 1:
		out.Config.Error = fmt.Sprintf("%d problems", n)
	default:
		out.Config.Error = r.problem.Error()
	}
	return out
}

// itself answers with what the daemon is and by which configuration it runs.
func (a *Agent) itself(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, a.status()) }

// line is the state of the daemon in one line, for systemctl status.
func (l *life) line() string {
	a := l.now.Load()
	s := a.status()
	text := fmt.Sprintf("%d apps", len(s.Apps))
	if len(s.Apps) == 1 {
		text = "1 app"
	}
	if s.Listen != "" {
		text += ", listening on " + s.Listen
	}
	if s.Config.Refused != "" {
		text = fmt.Sprintf("%s is refused since %s (%s); running by the one before: %s", s.Config.Path, s.Config.Refused, s.Config.Error, text)
	}
	for _, p := range s.Config.Pending {
		text += "; " + p
	}
	return text
}

// rereads is reload, with the service manager told of its beginning and its end.
func (l *life) rereads(c *crew, say func(string)) error {
	say(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
	err := l.reload(c)
	say(l.up())
	return err
}

// up says to the service manager that the agent works, and how.
func (l *life) up() string {
	return daemon.SdNotifyReady + "\nSTATUS=" + strings.Join(strings.Fields(l.line()), " ") // a second line would be another message
}
