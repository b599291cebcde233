package service

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// manager is a systemd with one unit, which was crashing until now. It speaks D-Bus over pipes.
type manager struct {
	mu      sync.Mutex
	asked   []string              // the verbs
	signals io.Writer             // of the connection that has subscribed to the ends of jobs
	unit    map[string]any        // its properties
	verbs   map[string]func()     // what a verb does to the unit
	broken  map[string]dbus.Error // what a verb is answered with instead
}

func (m *manager) connect(t *testing.T) func(context.Context) (*systemd.Conn, error) {
	return func(context.Context) (*systemd.Conn, error) {
		return systemd.NewConnection(func() (*dbus.Conn, error) {
			ours, theirs := net.Pipe()
			served := make(chan struct{})
			go func() { defer close(served); m.serve(ours) }()
			t.Cleanup(func() { ours.Close(); <-served })
			conn, err := dbus.NewConn(theirs)
			if err != nil {
				return nil, err
			}
			return conn, conn.Auth([]dbus.Auth{dbus.AuthExternal("0")})
		})
	}
}

// serve lets the client in, then answers its calls until it hangs up.
func (m *manager) serve(c net.Conn) {
	in := bufio.NewReader(c)
	for _, answer := range []string{"REJECTED EXTERNAL\r\n", "OK 00\r\n", ""} {
		if _, err := in.ReadString('\n'); err != nil {
			return
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
	for {
		call, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		m.answer(c, call)
	}
}

const jobPath = dbus.ObjectPath("/org/freedesktop/systemd1/job/7")

func (m *manager) answer(c io.Writer, call *dbus.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	verb, _ := call.Headers[dbus.FieldMember].Value().(string)
	headers := map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(call.Serial())}
	if verb != "AddMatch" {
		m.asked = append(m.asked, verb)
	}
	if e, ok := m.broken[verb]; ok {
		headers[dbus.FieldErrorName] = dbus.MakeVariant(e.Name)
		send(c, dbus.TypeError, headers)
		return
	}
	if do := m.verbs[verb]; do != nil {
		do()
	}
	switch verb {
	case "AddMatch":
		m.signals = c
		send(c, dbus.TypeMethodReply, headers)
	case "GetAll":
		props := map[string]dbus.Variant{}
		for name, value := range m.unit {
			props[name] = dbus.MakeVariant(value)
		}
		send(c, dbus.TypeMethodReply, headers, props)
	case "RestartUnit":
		send(c, dbus.TypeMethodReply, headers, jobPath)
		send(m.signals, dbus.TypeSignal, map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath:      dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/systemd1")),
			dbus.FieldInterface: dbus.MakeVariant("org.freedesktop.systemd1.Manager"),
			dbus.FieldMember:    dbus.MakeVariant("JobRemoved"),
		}, uint32(7), jobPath, "app.service", "done")
	default:
		send(c, dbus.TypeMethodReply, headers)
	}
}

func send(c io.Writer, kind dbus.Type, headers map[dbus.HeaderField]dbus.Variant, body ...any) {
	if len(body) > 0 {
		headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	m := dbus.Message{Type: kind, Headers: headers, Body: body}
	if err := m.EncodeTo(c, binary.LittleEndian); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		panic(err)
	}
}

// TestRestartCountsFromItsJob has the timer of a crash loop go off between the clearing of the count and the job, which systemd
// then counts although it is the job that starts the unit.
func TestRestartCountsFromItsJob(t *testing.T) {
	for _, tt := range []struct {
		name    string
		timer   uint32 // automatic restarts before the job
		after   map[string]any
		refused bool // the second clearing
		want    int
		asked   string
	}{
		{name: "nothing happens", asked: "GetAll ResetFailedUnit RestartUnit GetAll GetAll", after: map[string]any{"ActiveState": "active"}},
		{name: "the timer goes off", timer: 1, asked: "GetAll ResetFailedUnit RestartUnit GetAll GetAll ResetFailedUnit",
			after: map[string]any{"ActiveState": "active"}},
		{name: "what was started has failed", timer: 1, want: 1, asked: "GetAll ResetFailedUnit RestartUnit GetAll GetAll",
			after: map[string]any{"ActiveState": "failed", "Result": "exit-code"}},
		{name: "what was started has crashed", timer: 1, want: 1, asked: "GetAll ResetFailedUnit RestartUnit GetAll GetAll",
			after: map[string]any{"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code"}},
		{name: "it cannot be cleared", timer: 1, want: 1, refused: true, asked: "GetAll ResetFailedUnit RestartUnit GetAll GetAll ResetFailedUnit",
			after: map[string]any{"ActiveState": "active"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &manager{unit: map[string]any{"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": uint32(40)}}
			m.verbs = map[string]func(){
				"ResetFailedUnit": func() { m.unit["NRestarts"] = uint32(0) },
				"RestartUnit": func() {
					m.unit["NRestarts"] = m.unit["NRestarts"].(uint32) + tt.timer
					for name, value := range tt.after {
						m.unit[name] = value
					}
					if tt.refused {
						m.broken = map[string]dbus.Error{"ResetFailedUnit": {Name: "org.freedesktop.DBus.Error.AccessDenied"}}
					}
				},
			}
			s, err := NewSystemd("app.service", slog.New(slog.NewTextHandler(t.Output(), nil)))
			if err != nil {
				t.Fatal(err)
			}
			s.bus.dial = m.connect(t)
			t.Cleanup(s.Close)
			if err := s.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.mu.Lock()
			asked := slices.Clone(m.asked)
			m.mu.Unlock()
			if got := strings.Join(asked, " "); got != tt.asked {
				t.Errorf("got calls %s, want %s", got, tt.asked)
			}
			if st, err := s.State(t.Context()); err != nil || st.Restarts != tt.want {
				t.Errorf("got %+v, %v, want %d restarts", st, err, tt.want)
			}
		})
	}
}
