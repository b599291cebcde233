package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"testing"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

func TestNewSystemdChecksTheName(t *testing.T) {
	for _, name := range []string{"", "app", "app.socket", "a b.service", "../x.service"} {
		if _, err := NewSystemd(name, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%q: got no error", name)
		}
	}
}

func TestExplain(t *testing.T) {
	s := &Systemd{unit: "app.service"}
	for _, tt := range []struct {
		name string
		is   error
		want string
	}{
		{"org.freedesktop.DBus.Error.AccessDenied", fs.ErrPermission, "unit app.service and verb restart; towline app add writes one"},
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

func TestMessageForms(t *testing.T) {
	for _, tt := range []struct{ json, want string }{
		{`"plain"`, "plain"},
		{`[27,91,255,65]`, "\x1b[\xffA"},
		{`["one","two"]`, "one\ntwo"},
		{`["one",[65,66]]`, "one\nAB"},
		{`null`, ""},
	} {
		var e entry
		if err := json.Unmarshal([]byte(`{"MESSAGE":`+tt.json+`}`), &e); err != nil || string(e.Message) != tt.want {
			t.Errorf("%s: got %q, %v, want %q", tt.json, e.Message, err, tt.want)
		}
	}
}

// TestImpliedResult: the signal of a job's end may be lost.
func TestImpliedResult(t *testing.T) {
	for _, tt := range []struct{ verb, kind, active, result, want string }{
		{"stop", "simple", "inactive", "success", "done"},
		{"stop", "simple", "failed", "timeout", "done"},
		{"stop", "simple", "active", "success", "failed"},
		{"restart", "notify", "active", "success", "done"},
		{"restart", "notify", "activating", "exit-code", "done"},
		{"restart", "notify", "failed", "timeout", "failed"},
		{"restart", "forking", "inactive", "success", "failed"},
		{"restart", "simple", "failed", "exit-code", "done"},
		{"restart", "oneshot", "inactive", "success", "done"},
		{"restart", "oneshot", "active", "success", "done"},
		{"restart", "oneshot", "failed", "exit-code", "failed"},
	} {
		props := map[string]any{"Type": tt.kind, "ActiveState": tt.active, "Result": tt.result}
		if got := impliedResult(props, tt.verb); got != tt.want {
			t.Errorf("%s of a %s unit that is %s (%s): got %s, want %s", tt.verb, tt.kind, tt.active, tt.result, got, tt.want)
		}
	}
}
