//go:build droplet

package service

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/towline/towline/internal/deployment"
)

// lateConn is a connection to systemd on which something happens before a restart is asked for.
type lateConn struct {
	net.Conn
	before func()
}

func (c lateConn) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("RestartUnit")) {
		c.before()
	}
	return c.Conn.Write(p)
}

// TestSystemdRestartAmidACrashLoop restarts a unit that crashes again and again, and that works from then on. It has crashed
// once more since the count was cleared, and waits for its next start: that is not held against what runs now.
func TestSystemdRestartAmidACrashLoop(t *testing.T) {
	works := filepath.Join(t.TempDir(), "works")
	s := newUnit(t, "amid", "Restart=always\nRestartSec=500ms\nExecStart=/bin/sh -c 'test -e "+works+" && exec sleep 1000; exit 1'\n")
	if err := s.Restart(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	other := open(t, s.unit)
	meet := func() {
		await(t, other, func(st deployment.UnitState) bool { return st.Restarts > 0 && st.Sub == "auto-restart" })
		if err := os.WriteFile(works, nil, 0o644); err != nil {
			t.Error(err)
		}
	}
	s.Close()
	s.bus.dial = func(context.Context) (*systemd.Conn, error) {
		return systemd.NewConnection(func() (*dbus.Conn, error) {
			private, err := net.Dial("unix", "/run/systemd/private")
			if err != nil {
				return nil, err
			}
			conn, err := dbus.NewConn(lateConn{private, meet})
			if err != nil {
				return nil, err
			}
			return conn, conn.Auth([]dbus.Auth{dbus.AuthExternal("0")})
		})
	}
	if err := s.Restart(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	if st, err := s.State(t.Context()); err != nil || st.Active != "active" || st.Restarts != 0 {
		t.Errorf("got %+v, %v, want it running with 0 restarts", st, err)
	}
}
