package service

import (
	"context"

	systemd "github.com/coreos/go-systemd/v22/dbus"
)

// GoingDown reports whether the machine is being shut down or rebooted. Where systemd does not answer it is not known to be.
func (s *Systemd) GoingDown(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, afterwards)
	defer cancel()
	var state string
	err := s.bus.call(ctx, true, func(ctx context.Context, c *systemd.Conn) error {
		p, err := c.SystemStateContext(ctx)
		if err == nil {
			state, _ = p.Value.Value().(string)
		}
		return err
	})
	return err == nil && state == "stopping"
}
