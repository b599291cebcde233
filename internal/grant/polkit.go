package grant

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// Polkit returns the version of the polkit of this machine, "" when there is none, and whether it can let one user handle one
// unit: since 0.106, of which Debian 11 and Ubuntu 22.04 fall short, its rules can look at what an action is about.
func Polkit(ctx context.Context) (version string, able bool, err error) {
	out, err := exec.CommandContext(ctx, "pkaction", "--version").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("ask polkit for its version: pkaction --version: %w", err)
	}
	words := strings.Fields(string(out)) // pkaction version 0.105
	if len(words) == 0 {
		return "", false, errors.New("ask polkit for its version: pkaction --version: it says nothing")
	}
	version = words[len(words)-1]
	able, err = tellsUnitsApart(version)
	return version, able, err
}

// tellsUnitsApart judges a version: 0.105, 0.106, then from 121 on without the leading zero.
func tellsUnitsApart(version string) (bool, error) {
	major, rest, dotted := strings.Cut(version, ".")
	first, err := strconv.Atoi(major)
	if err != nil {
		return false, fmt.Errorf("version of polkit %q: want a number", version)
	}
	if first > 0 || !dotted {
		return first > 0, nil
	}
	minor, _, _ := strings.Cut(rest, ".")
	second, err := strconv.Atoi(minor)
	if err != nil {
		return false, fmt.Errorf("version of polkit %q: want a number", version)
	}
	return second >= 106, nil
}
