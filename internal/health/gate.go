package health

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/towline/towline/internal/deployment"
)

const (
	unitEvery  = 100 * time.Millisecond // between two looks at the unit
	probeFirst = 100 * time.Millisecond // pause after the first attempt, doubled up to probeMax
	probeMax   = time.Second

	defaultWithin = 30 * time.Second
	keepAttempts  = 5 // distinct attempts kept for a Failure
)

// Gate is one health check. Unit may be nil or return an unmanaged state, Probe may be nil: then the other decides
// alone; with neither, Wait only lets Stable pass, and says so.
type Gate struct {
	Probe Probe
	Unit  func(context.Context) (deployment.UnitState, error)

	Within   time.Duration // to become healthy: the unit active, and Passes attempts passed; 0 is 30 s
	Stable   time.Duration // the soak: how long the unit must stay the same, counted from when it was seen active
	Interval time.Duration // pause between attempts; 0 grows from 100 ms to 1 s
	Passes   int           // attempts that must pass in a row, begun while the unit was active; 0 is 1
}

// Wait returns nil when the release works, a *[Failure] when it does not, and another error when nobody can tell or ctx
// has ended. Before is the unit as it was before the restart: the same invocation is the old process. A crash is a
// failure at once. It takes at most Within and Stable, and the five seconds of one attempt when that begins at the
// very end. Report gets a line for people whenever something changes; it is called from this goroutine only.
func (g Gate) Wait(ctx context.Context, before deployment.UnitState, report func(string)) error {
	if g.Within <= 0 {
		g.Within = defaultWithin
	}
	g.Passes = max(g.Passes, 1)
	if report == nil {
		report = func(string) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{Gate: g, before: before, report: report, began: time.Now(), results: make(chan result, 1)}
	defer func() {
		cancel()
		if w.running {
			<-w.results
		}
	}()
	return w.wait(ctx)
}

// result is how one attempt ended.
type result struct {
	began  time.Time
	detail string
	err    error
}

// Alive looks once at what runs now, which nobody has just restarted: nil when the unit, where there is one, is active
// and one attempt of the probe, where there is one, passes; else why not. It takes no more than five seconds for each.
func (g Gate) Alive(ctx context.Context) error {
	if g.Unit != nil {
		limited, cancel := context.WithTimeout(ctx, attempt)
		defer cancel()
		switch st, err := g.Unit(limited); {
		case err != nil:
			return fmt.Errorf("health check: %w", err)
		case !st.Managed:
		case !active(st), waitsForRestart(st):
			return errors.New(describe(st))
		case st.Sub == "exited" && st.Type != "oneshot":
			return fmt.Errorf("%s: the main process is gone (RemainAfterExit=yes hides it)", describe(st))
		}
	}
	if g.Probe == nil {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	_, err := g.Probe.Try(limited)
	return err
}

// watch is one run of a Gate.
type watch struct {
	Gate
	before deployment.UnitState
	report func(string)
	began  time.Time

	unit    deployment.UnitState // as last seen
	unitErr error                // why it was not seen at the last look
	active  deployment.UnitState // as seen when it had become active
	upAt    time.Time            // when that was; zero before

	running  bool // an attempt is under way
	results  chan result
	streak   int       // attempts passed in a row since upAt
	passedAt time.Time // end of the last of them
	healthy  bool      // active, and Passes reached
	tries    attempts
	doubt    error // the verdict after an attempt that failed once healthy
	doubtAt  time.Time

	said string
}

func (w *watch) wait(ctx context.Context) error {
	tick := time.NewTicker(unitEvery)
	defer tick.Stop()
	pause := probeFirst
	next := time.NewTimer(0)
	defer next.Stop()
	if w.Probe == nil {
		next.Stop()
	}

	for look := true; ; {
		if look {
			if err := w.look(ctx); err != nil {
				return err
			}
		}
		if done, err := w.decide(ctx); done || err != nil {
			return err
		}
		if end := time.Until(w.soakEnd()); w.Probe == nil && w.healthy && end > 0 {
			next.Reset(end) // the last look comes when the soak ends, not up to a tick later
		}
		look = false
		select {
		case <-ctx.Done():
			return fmt.Errorf("health check: %w", ctx.Err())
		case <-tick.C:
			look = true
		case <-next.C:
			if look = w.Probe == nil; !look {
				w.try(ctx)
			}
		case r := <-w.results:
			w.running = false
			w.judge(r)
			switch {
			case w.Interval > 0:
				pause = w.Interval
			case w.healthy:
				pause = probeMax
			}
			if end := time.Until(w.soakEnd()); w.healthy && end > 0 {
				pause = min(pause, end) // the last attempt comes when the soak ends, not a pause later
			}
			next.Reset(pause)
			if w.Interval <= 0 {
				pause = min(2*pause, probeMax)
			}
			look = true // the process that answered may be gone again
		}
	}
}

// deadline is when the release must be healthy; soakEnd when it must still be so.
func (w *watch) deadline() time.Time { return w.began.Add(w.Within) }
func (w *watch) soakEnd() time.Time  { return w.upAt.Add(w.Stable) }

// say reports a line unless it is the same as the last.
func (w *watch) say(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); line != w.said {
		w.said = line
		w.report(line)
	}
}

// fail returns the verdict.
func (w *watch) fail(format string, args ...any) error {
	return &Failure{Reason: fmt.Sprintf(format, args...), Attempts: w.tries.list(), Unit: w.unit}
}

// decide ends the watch when all that was asked for has been seen, or when it comes too late.
func (w *watch) decide(ctx context.Context) (done bool, err error) {
	now := time.Now()
	w.rate(now)
	if w.doubt != nil {
		// Most apps stop answering because they died: let the unit speak first, it knows why.
		if w.unit.Managed && w.unitErr == nil && now.Sub(w.doubtAt) < unitEvery {
			return false, nil
		}
		return false, w.doubt
	}
	if !w.healthy {
		if now.Before(w.deadline()) {
			return false, nil
		}
		if w.running {
			// Its time was cut at the deadline, so that it is over; it may have passed in the last moment.
			r := <-w.results
			w.running = false
			w.judge(r)
			return w.decide(ctx)
		}
		return false, w.late()
	}
	if end := w.soakEnd(); now.Before(end) || w.Probe != nil && w.passedAt.Before(end) {
		return false, nil
	}
	if err := w.look(ctx); err != nil {
		return false, err
	}
	if w.unitErr != nil {
		if now.After(w.soakEnd().Add(attempt)) {
			return false, fmt.Errorf("health check: %w", w.unitErr)
		}
		return false, nil
	}
	w.say("healthy: %s", w.witness())
	return true, nil
}

// rate notices that the release has become healthy, from when on it must stay so.
func (w *watch) rate(now time.Time) {
	if w.healthy || w.upAt.IsZero() || w.Probe != nil && w.streak < w.Passes {
		return
	}
	w.healthy = true
	if rest := w.soakEnd().Sub(now); rest > 0 {
		w.say("%s, watching for another %s", w.witness(), rest.Round(100*time.Millisecond))
	}
}

// witness says what the verdict rests on.
func (w *watch) witness() string {
	switch {
	case w.Probe != nil:
		return w.tries.last()
	case w.unit.Managed:
		return "unit is active, no probe configured"
	}
	return "nothing to check: no unit, no probe"
}

// late is the error of a release that did not become healthy in time.
func (w *watch) late() error {
	switch {
	case w.unitErr != nil:
		return fmt.Errorf("health check: %w", w.unitErr)
	case w.upAt.IsZero() && w.unit.Invocation == w.before.Invocation:
		return w.fail("not healthy within %s: unit was not restarted, it still runs as before", w.Within)
	case w.upAt.IsZero():
		return w.fail("not healthy within %s: %s", w.Within, describe(w.unit))
	case w.streak > 0:
		return w.fail("not healthy within %s: passed %d of %d times in a row", w.Within, w.streak, w.Passes)
	case w.tries.last() == "":
		return w.fail("not healthy within %s: no probe attempt ended", w.Within)
	}
	return w.fail("not healthy within %s: %s", w.Within, w.tries.last())
}

// try begins an attempt.
func (w *watch) try(ctx context.Context) {
	w.running = true
	limit := attempt
	if !w.healthy {
		limit = min(limit, time.Until(w.deadline()))
	}
	go func() {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		r := result{began: time.Now()}
		r.detail, r.err = w.Probe.Try(ctx)
		w.results <- r
	}()
}

// judge takes the result of an attempt into account.
func (w *watch) judge(r result) {
	now := time.Now()
	if r.err == nil {
		w.tries.add(r.detail)
		if !w.upAt.IsZero() && !r.began.Before(w.upAt) {
			w.streak++
			w.passedAt = now
			w.rate(now)
		}
		return
	}
	w.streak = 0
	cut := !w.healthy && !now.Before(w.deadline()) && now.Sub(r.began) < attempt
	if cut && w.tries.last() != "" {
		return // it says less than the complete attempts before it
	}
	w.tries.add(r.err.Error())
	if w.healthy && w.doubt == nil {
		w.doubtAt = now
		w.doubt = w.fail("was healthy, then failed %s after it was up: %s", now.Sub(w.upAt).Round(100*time.Millisecond), r.err)
	}
	if w.healthy {
		w.say("%s", r.err)
	} else {
		w.say("waiting: %s", r.err)
	}
}

// attempts are the last distinct attempts, equal ones in a row counted.
type attempts struct {
	lines  []string
	counts []int
}

func (a *attempts) add(line string) {
	if n := len(a.lines); n > 0 && a.lines[n-1] == line {
		a.counts[n-1]++
		return
	}
	a.lines, a.counts = append(a.lines, line), append(a.counts, 1)
	over := max(0, len(a.lines)-keepAttempts)
	a.lines, a.counts = a.lines[over:], a.counts[over:]
}

// last is the newest attempt, empty before the first.
func (a *attempts) last() string {
	if len(a.lines) == 0 {
		return ""
	}
	return a.lines[len(a.lines)-1]
}

func (a *attempts) list() []string {
	var out []string
	for i, line := range a.lines {
		if a.counts[i] > 1 {
			line = fmt.Sprintf("%s (%d times)", line, a.counts[i])
		}
		out = append(out, line)
	}
	return out
}
