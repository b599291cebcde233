package service

import (
	"context"
	"fmt"
)

// User returns the name of the user that the unit's processes run as, as its unit file says: root where it says
// nothing, or where systemd does not know the unit.
func (s *Systemd) User(ctx context.Context) (string, error) {
	props, err := s.bus.properties(ctx, s.unit)
	if err != nil {
		return "", fmt.Errorf("user of %s: %w", s.unit, err)
	}
	if name, _ := props["User"].(string); name != "" {
		return name, nil
	}
	return "root", nil
}
