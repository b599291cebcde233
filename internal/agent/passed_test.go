package agent

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/test/parts"
)

// holder is systemd, which holds a port whatever becomes of the agent.
type holder struct {
	t *testing.T
	l *net.TCPListener
}

func newHolder(t *testing.T) *holder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &holder{t, l.(*net.TCPListener)}
}

// pass is a copy of the port, as a process gets it.
func (h *holder) pass() []net.Listener {
	h.t.Helper()
	f, err := h.l.File()
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		h.t.Fatal(err)
	}
	return []net.Listener{l}
}

// ask sends a request without waiting for the answer.
func (h *holder) ask() net.Conn {
	h.t.Helper()
	c, err := net.Dial("tcp", h.l.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, healthz); err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (h *holder) answered(c net.Conn) {
	h.t.Helper()
	answer := make([]byte, 15)
	if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "HTTP/1.1 200 OK" {
		h.t.Errorf("got %q, %v, want an answer", answer, err)
	}
}

func TestThePortOutlivesTheAgent(t *testing.T) {
	w := newWorld(t)
	s := w.settings("listen: \":8422\"\ntls: off", oneApp)
	systemd := newHolder(t)
	for range 3 {
		early := systemd.ask() // while there is no agent
		log := &parts.Buffer{}
		a, err := open(s, slog.New(slog.NewTextHandler(log, nil)), systemd.pass())
		w.must(err)
		if a.Addr() != systemd.l.Addr().String() {
			t.Errorf("got %s, want the port that was passed, %s", a.Addr(), systemd.l.Addr())
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Run(ctx) }()
		systemd.answered(early)
		systemd.answered(systemd.ask())
		cancel()
		w.must(<-ended)
		if text := log.String(); !strings.Contains(text, "not that of listen") || !strings.Contains(text, systemd.l.Addr().String()) {
			t.Errorf("nothing is said of another port than listen's:\n%s", text)
		}
	}
}

func TestAPassedPortThatNobodyWants(t *testing.T) {
	w := newWorld(t)
	systemd := newHolder(t)
	log := &parts.Buffer{}
	a, err := open(w.settings("", oneApp), slog.New(slog.NewTextHandler(log, nil)), systemd.pass())
	w.must(err)
	defer a.release()
	if a.Addr() != "" || a.Pin() != "" || !strings.Contains(log.String(), "listen is not configured") {
		t.Errorf("got address %q, log:\n%s", a.Addr(), log)
	}
}

func TestAPassedPortIsGivenBackWithTheSettingsWrong(t *testing.T) {
	w := newWorld(t)
	passed := newHolder(t).pass()
	s := w.settings(listening, oneApp)
	s.TLS = config.TLS{Mode: config.TLSFiles, Cert: w.dir + "/none", Key: w.dir + "/none"}
	if _, err := open(s, slog.New(slog.DiscardHandler), passed); err == nil || !strings.Contains(err.Error(), "tls: ") {
		t.Errorf("got %v, want what is wrong with tls", err)
	}
	if _, err := passed[0].Accept(); err == nil {
		t.Error("the port is still open")
	}
}

// A socket unit takes connections at every address unless it is told otherwise: whoever wrote a narrower listen: hears of it.
func TestAPassedPortIsWiderThanListen(t *testing.T) {
	all, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	_, port, _ := net.SplitHostPort(all.Addr().String())
	for listen, want := range map[string]bool{
		":" + port: true, "0.0.0.0:" + port: true, "[::]:" + port: true, "127.0.0.1:" + port: true, ":1": false,
		"127.0.0.2:" + port: false, "localhost:" + port: true,
	} {
		if got := sameAddress(all, listen); got != want {
			t.Errorf("%s: got %v, want %v", listen, got, want)
		}
	}
	for listen, want := range map[string]bool{":8422": true, "[::]:8422": true, "127.0.0.1:8422": false, "localhost:8422": false} {
		if got := sameAddress(everywhere{}, listen); got != want {
			t.Errorf("everywhere, %s: got %v, want %v", listen, got, want)
		}
	}
}

// everywhere listens at port 8422 of every address.
type everywhere struct{ net.Listener }

func (everywhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv6unspecified, Port: 8422} }
