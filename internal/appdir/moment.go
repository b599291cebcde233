package appdir

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// jumpMost is by how much, in nanoseconds, two readings of a clock that nobody has set may seem to differ: what passes between
// the two clocks that a reading takes.
const jumpMost = 50e6

// moment is a reading of the clock that this machine dates changes of files by. That one moves in ticks, of up to 10 ms: a
// change is dated coarse or later, and no later than fine, if it comes after the one and before the other.
type moment struct {
	coarse int64 // nanoseconds since 1970, as of the last tick
	fine   int64
	up     int64 // nanoseconds since the machine was started, with which nobody tampers
}

// Moment is now, for those who keep it to ask Untouched later. It is empty where it cannot be told.
func (d *Dir) Moment() string {
	var before, coarse, fine, after unix.Timespec
	for range 5 {
		for _, read := range []struct {
			clock int32
			at    *unix.Timespec
		}{
			{unix.CLOCK_BOOTTIME, &before}, {unix.CLOCK_REALTIME_COARSE, &coarse}, {unix.CLOCK_REALTIME, &fine}, {unix.CLOCK_BOOTTIME, &after},
		} {
			if err := unix.ClockGettime(read.clock, read.at); err != nil {
				return ""
			}
		}
		if after.Nano()-before.Nano() < jumpMost/4 { // else the process was held up in between
			break
		}
	}
	return fmt.Sprintf("k1:%d:%d:%d", coarse.Nano(), fine.Nano(), before.Nano())
}

func readMoment(text string) (m moment, ok bool) {
	fields, ok := strings.CutPrefix(text, "k1:")
	if !ok {
		return moment{}, false
	}
	n, err := fmt.Sscanf(fields, "%d:%d:%d", &m.coarse, &m.fine, &m.up)
	return m, err == nil && n == 3
}

// jumped reports whether the clock was set between two moments, or the machine was started anew.
func (m moment) jumped(o moment) bool {
	d := (m.fine - m.up) - (o.fine - o.up) // when the machine was started, as either has it
	return d > jumpMost || d < -jumpMost
}

// Untouched looks at a release that was recycled, and gives its Fingerprint. untouched reports whether the times of all entries
// say that nobody but the agent has changed it: each was changed last before clean, which is when a look began that found
// the recycled directory sound, or while the agent worked on it, which window says. It is false wherever that cannot be told: the
// machine was started anew since, or its clock was set.
//
// What is changed in the tick of the clock in which the work began or ended, or in the one after that, is not told from the work.
func (d *Dir) Untouched(name, window, clean string) (print string, untouched bool, err error) {
	if !releaseName.MatchString(name) {
		return "", false, fmt.Errorf("look at release %q: not the name of one", name)
	}
	begin, end, _ := strings.Cut(window, " ")
	now, known := readMoment(d.Moment())
	from, ok := readMoment(begin)
	known = known && ok
	to, ok := readMoment(end)
	known = known && ok
	last, ok := readMoment(clean)
	known = known && ok && last.coarse <= from.coarse && from.coarse <= to.fine && to.fine <= now.fine
	untouched = known && !now.jumped(to) && !now.jumped(from) && !now.jumped(last)

	sum := sha256.New()
	err = walk(d.ReleasePath(name), func(p string, st *unix.Stat_t) error {
		imprint(sum, p, st)
		if at := st.Ctim.Nano(); p != "." && at >= last.coarse && (at < from.coarse || at > to.fine) {
			untouched = false
		}
		return nil
	})
	if err != nil {
		return "", false, fmt.Errorf("look at release %s: %w", name, err)
	}
	return printed(sum), untouched, nil
}
