package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
)

const (
	journalBytes = 1 << 20                // read of the journal at most
	settleEvery  = 100 * time.Millisecond // between two looks at a journal that may still lag behind
	settleTries  = 6
)

// Log returns the last n journal lines of the unit since its last Restart, without the last words of the process that
// this ended: what its processes wrote and what systemd said of them, in a crash loop of all its rounds. Before the
// first Restart, the last n lines of the unit. When the journal cannot be read, the one line says so and what would
// help.
func (s *Systemd) Log(ctx context.Context, n int) ([]string, error) {
	look, cancel := context.WithTimeout(ctx, afterwards)
	defer cancel()
	// The journal is read without the bus. A unit that is not to be seen is taken for one that has ended.
	st, err := s.State(look)
	if ctx.Err() != nil {
		return nil, err
	}
	// journalctl's own --unit takes only what process 1 says of a unit. Of a program that cannot be started a process
	// speaks that root forked for it, and which is often gone before journald has asked to which unit it belonged.
	return s.journal(ctx, n, err != nil || st.Active != "active",
		"_SYSTEMD_UNIT="+s.unit, "+", "UNIT="+s.unit, "_UID=0", "+", "OBJECT_SYSTEMD_UNIT="+s.unit, "_UID=0", "+", "COREDUMP_UNIT="+s.unit, "_UID=0")
}

// output returns what the unit's own processes wrote since the last Restart, without systemd's words.
func (s *Systemd) output(ctx context.Context, n int, ended bool) ([]string, error) {
	return s.journal(ctx, n, ended, "_SYSTEMD_UNIT="+s.unit)
}

// journal reads what matches, for a process that has ended until two looks agree: journald gets the last words of a
// process some milliseconds after systemd has seen its end.
func (s *Systemd) journal(ctx context.Context, n int, ended bool, match ...string) ([]string, error) {
	s.mu.Lock()
	old, when := s.old, s.when
	s.mu.Unlock()
	args := match
	if !when.IsZero() {
		args = append(args, fmt.Sprintf("--since=@%d.%06d", when.Unix(), when.Nanosecond()/1000))
	}
	var before []string
	for try := 1; ; try++ {
		lines, err := journalctl(ctx, s.unit, n, old, args)
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

// journalctl runs the program of that name once and leaves out entries of the invocation old. It does not ask for
// the wanted invocation instead: journald does not know that of a process which ended before it read the first line,
// and those are the crashes that matter. For the same reason the old one's last words may be taken for the new one's;
// its main process is known by its number.
func journalctl(ctx context.Context, unit string, n int, old deployment.UnitState, args []string) ([]string, error) {
	path, err := lookPath("journalctl", []string{"PATH=" + defaultPath})
	if err != nil {
		return []string{"no journal of " + unit + ": journalctl is not installed"}, nil
	}
	cmd := exec.CommandContext(ctx, path, append(args, "--output=json", "--all", "--no-pager", "--lines="+strconv.Itoa(n),
		"--output-fields=MESSAGE,_PID,_SYSTEMD_INVOCATION_ID,INVOCATION_ID")...)
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
	var lines []string
	for _, line := range out.raw(n) {
		var e entry
		if json.Unmarshal([]byte(line), &e) != nil || e.of(old) {
			continue
		}
		for text := range strings.Lines(string(e.Message)) {
			lines = append(lines, clean(text))
		}
	}
	return lines[max(0, len(lines)-n):], nil
}

// entry is one journal entry as journalctl writes it.
type entry struct {
	Message message `json:"MESSAGE"`
	PID     any     `json:"_PID"`                   // of the process that wrote it
	Own     any     `json:"_SYSTEMD_INVOCATION_ID"` // of the process that wrote it
	About   any     `json:"INVOCATION_ID"`          // of the unit that systemd speaks of
}

// of reports whether the entry is the invocation's.
func (e entry) of(old deployment.UnitState) bool {
	return old.Invocation != "" && (e.Own == old.Invocation || e.About == old.Invocation) ||
		old.MainPID > 1 && e.PID == strconv.Itoa(old.MainPID)
}

// message is a string or, when that is no plain text, an array of bytes as numbers, or, for an entry that holds
// several, an array of these.
type message string

// UnmarshalJSON accepts the forms of journalctl.
func (m *message) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*m = message(text)
		return nil
	}
	var numbers []uint16
	if json.Unmarshal(data, &numbers) == nil {
		b := make([]byte, len(numbers))
		for i, n := range numbers {
			b[i] = byte(n) // #nosec G115 -- journald writes bytes as numbers
		}
		*m = message(b)
		return nil
	}
	var several []message
	if err := json.Unmarshal(data, &several); err != nil {
		return err
	}
	for i, one := range several {
		if i > 0 {
			*m += "\n"
		}
		*m += one
	}
	return nil
}
