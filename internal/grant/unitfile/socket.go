package unitfile

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/towline/towline/internal/grant"
)

// Socket is what systemd listens on for an app: while the unit is restarted, who connects waits in it.
type Socket struct {
	Key, Unit string
	Listen    string // as Address gives it
}

// Name is the name of the socket's own unit.
func (s Socket) Name() string { return s.Key + ".socket" }

// Address is what is to be listened on: a port is one of this machine only, as behind a proxy; host:port one of that address,
// and :port one of all addresses.
func Address(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if !strings.Contains(text, ":") {
		host, port, err = "127.0.0.1", text, nil
	}
	if err != nil {
		return "", fmt.Errorf("socket %q: want a port, or host:port", text)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("socket %q: want a port of 1 to 65535", text)
	}
	if host == "" {
		return port, nil
	}
	if net.ParseIP(host) == nil {
		return "", fmt.Errorf("socket %q: want an address of this machine, such as 127.0.0.1 or [::1], not a name", text)
	}
	return net.JoinHostPort(host, port), nil
}

// Text is the socket's unit.
func (s Socket) Text() string {
	return fmt.Sprintf(`# %s %s; what is changed here is lost when it runs again.
# systemd listens, and %s takes the socket over as descriptor 3. While a release makes way for the next one, who connects waits.

[Unit]
Description=Socket of %s, which stays open while its releases change

[Socket]
ListenStream=%s
Service=%s
Accept=no
Backlog=4096

[Install]
WantedBy=sockets.target
`, grant.Mark, s.Key, s.Unit, s.Key, s.Listen, s.Unit)
}

// DropIn is what the unit needs for it: started on its own it takes the socket as well, and a restart opens the socket again
// where it was closed, as it is by a release that fails too often.
func (s Socket) DropIn() string {
	return fmt.Sprintf(`# %s %s; what is changed here is lost when it runs again.
[Unit]
Requires=%s
After=%s
[Service]
Sockets=%s
`, grant.Mark, s.Key, s.Name(), s.Name(), s.Name())
}

func (s Socket) path() string       { return unitDir + "/" + s.Name() }
func (s Socket) dropInPath() string { return unitDir + "/" + s.Unit + ".d/towline-socket.conf" }

// Plan writes both files.
func (s Socket) Plan(root string) (grant.Plan, error) {
	return grant.Files(root,
		grant.File{Path: s.path(), Text: s.Text(), Detail: "systemd listens on " + s.Listen + " for " + s.Unit},
		grant.File{Path: s.dropInPath(), Text: s.DropIn(), Detail: s.Unit + " takes it over"})
}

var listens = regexp.MustCompile(`(?m)^(ListenStream|Service)=(.*)$`)

// FindSocket reads the socket that was written for the app; Listen is empty where there is none.
func FindSocket(root, key string) (Socket, error) {
	s := Socket{Key: key}
	data, err := os.ReadFile(root + s.path())
	if os.IsNotExist(err) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if first, _, _ := strings.Cut(string(data), "\n"); !strings.Contains(first, grant.Mark+" "+key+";") {
		return s, nil // somebody else's
	}
	for _, m := range listens.FindAllStringSubmatch(string(data), -1) {
		if m[1] == "Service" {
			s.Unit = m[2]
		} else {
			s.Listen = m[2]
		}
	}
	return s, nil
}

// Forget plans to delete both files.
func (s Socket) Forget(root string) (grant.Plan, error) {
	return grant.Files(root, grant.File{Path: s.dropInPath()}, grant.File{Path: s.path()})
}
