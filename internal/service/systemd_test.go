package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"testing"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/towline/towline/internal/deployment"
)

func TestNewSystemdChecksTheName(t *testing.T) {
	for _, name := range []string{"", "app", "app.socket", "a b.service", "../x.service"} {
		if _, err := NewSystemd(name, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%q: got no error", name)
		}
	}
}

func TestNote(t *testing.T) {
	s := &Systemd{old: "old"}
	for _, st := range []deployment.UnitState{
		{Invocation: "old"}, {}, {Invocation: "a"}, {Invocation: "a"}, {Invocation: "b", Restarts: 1}, {Invocation: "c", Restarts: 2},
	} {
		s.note(st)
	}
	if got, want := fmt.Sprint(s.seen), "[a b c]"; got != want {
		t.Errorf("crash loop: got %s, want %s", got, want)
	}
	s.note(deployment.UnitState{Invocation: "d"})
	if got, want := fmt.Sprint(s.seen), "[d]"; got != want {
		t.Errorf("started by hand: got %s, want %s", got, want)
	}
	for i := range 20 {
		s.note(deployment.UnitState{Invocation: fmt.Sprint(i), Restarts: i + 1})
	}
	if got := len(s.seen); got != seenMax || s.seen[seenMax-1] != "19" {
		t.Errorf("got %q, want the last %d", s.seen, seenMax)
	}
}

func TestExplain(t *testing.T) {
	s := &Systemd{unit: "app.service"}
	for _, tt := range []struct {
		name string
		is   error
		want string
	}{
		{"org.freedesktop.DBus.Error.AccessDenied", fs.ErrPermission, "unit app.service and verb restart"},
		{"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", fs.ErrPermission, "manage-units"},
		{"org.freedesktop.systemd1.NoSuchUnit", fs.ErrNotExist, "no such unit"},
		{"org.freedesktop.systemd1.UnitMasked", nil, "systemctl unmask app.service"},
		{"org.freedesktop.systemd1.LoadFailed", nil, "org.freedesktop.systemd1.LoadFailed"},
	} {
		err := s.explain("restart", fmt.Errorf("call: %w", dbus.Error{Name: tt.name}))
		if !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestWithoutSystemd(t *testing.T) {
	s, err := NewSystemd("app.service", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	absent := errors.New("dial unix /run/dbus/system_bus_socket: no such file")
	s.bus.dial = func(context.Context) (*systemd.Conn, error) { return nil, absent }
	err = s.Restart(t.Context())
	if want := "restart app.service: state of app.service: connect to systemd: " + absent.Error(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestConnectGivesUpWithItsContext has a bus that never answers.
func TestConnectGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := bus{dial: func(ctx context.Context) (*systemd.Conn, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	if _, err := b.properties(ctx, "app.service"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}
