package service

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	journalBytes = 256 << 10              // read of the journal at most
	settleEvery  = 100 * time.Millisecond // between two looks at a journal that may still lag behind
	settleTries  = 6
)

// Log returns the last n journal lines of the unit's newest invocation, and of those that crashed before it since the
// last manual start: what its processes wrote and what systemd said of them. Where that is nothing, all lines of the
// unit since the last Restart. When the journal cannot be read, the one line says so and what would help.
func (s *Systemd) Log(ctx context.Context, n int) ([]string, error) {
	st, err := s.State(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	ids, when := slices.Clone(s.seen), s.when
	s.mu.Unlock()

	dead := st.Active != "active"
	var match []string
	for _, id := range ids {
		// The first holds what its processes say; the second what systemd says of them.
		match = append(match, "_SYSTEMD_INVOCATION_ID="+id, "+", "INVOCATION_ID="+id, "+")
	}
	if len(match) > 0 {
		lines, err := s.settled(ctx, n, dead, match[:len(match)-1])
		if err != nil || len(lines) > 0 {
			return lines, err
		}
	}
	return s.settled(ctx, n, dead, append(since(when), "--unit="+s.unit))
}

// output returns what the unit's own processes wrote since the last Restart, without systemd's words.
func (s *Systemd) output(ctx context.Context, n int, settle bool) ([]string, error) {
	s.mu.Lock()
	when := s.when
	s.mu.Unlock()
	return s.settled(ctx, n, settle, append(since(when), "_SYSTEMD_UNIT="+s.unit))
}

// since limits journalctl to entries from that moment on; the zero time does not.
func since(t time.Time) []string {
	if t.IsZero() {
		return nil
	}
	return []string{fmt.Sprintf("--since=@%d.%06d", t.Unix(), t.Nanosecond()/1000)}
}

// settled reads the journal, for a process that has ended until two looks agree: journald gets the last words of a
// process some milliseconds after systemd has seen its end.
func (s *Systemd) settled(ctx context.Context, n int, ended bool, match []string) ([]string, error) {
	var before []string
	for try := 1; ; try++ {
		lines, err := journal(ctx, s.unit, n, match)
		if err != nil || !ended || try == settleTries || len(lines) > 0 && slices.Equal(lines, before) {
			return lines, err
		}
		before = lines
		select {
		case <-ctx.Done():
			return lines, nil
		case <-time.After(settleEvery):
		}
	}
}

// journal runs journalctl once.
func journal(ctx context.Context, unit string, n int, match []string) ([]string, error) {
	path, err := lookPath("journalctl", []string{"PATH=" + defaultPath})
	if err != nil {
		return []string{"no journal of " + unit + ": journalctl is not installed"}, nil
	}
	args := append([]string{"--output=cat", "--no-pager", "--lines=" + strconv.Itoa(n)}, match...)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=" + defaultPath, "LC_ALL=C"}
	cmd.WaitDelay = time.Second
	out, complaint := &tail{max: journalBytes}, &tail{max: keepBytes}
	cmd.Stdout, cmd.Stderr = out, complaint
	err = cmd.Run()
	said := strings.Join(complaint.lines(keepLines), " ")
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("journal of %s: %w", unit, ctx.Err())
	case strings.Contains(said, "insufficient permissions"), strings.Contains(said, "not seeing messages from other users"):
		return []string{"no journal of " + unit + ": not permitted; add the agent's user to the group systemd-journal and start the agent again"}, nil
	case strings.Contains(said, "No journal files were found"):
		return []string{"no journal of " + unit + ": this system keeps none"}, nil
	case err != nil:
		var ee *exec.ExitError
		if errors.As(err, &ee) && said != "" {
			return nil, fmt.Errorf("journal of %s: %s", unit, said)
		}
		return nil, fmt.Errorf("journal of %s: %w", unit, err)
	}
	lines := out.lines(n)
	if len(lines) == 1 && lines[0] == "-- No entries --" {
		return nil, nil
	}
	return lines, nil
}
