package agent

import "context"

// GoingDown reports whether the machine is being shut down, as far as a service manager tells.
func (u *unit) GoingDown(ctx context.Context) bool {
	return u.systemd != nil && u.systemd.GoingDown(ctx)
}
