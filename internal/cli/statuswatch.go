package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// view is what status shows: for programs one object, for people a text.
type view struct {
	object deployment.Overview
	text   func(*bytes.Buffer, painter)
}

// show prints a view once, or goes on with it.
func (p *program) show(ctx context.Context, look func(context.Context) (view, error), asJSON, watch bool) error {
	on, err := p.painter()
	if err != nil {
		return err
	}
	v, err := look(ctx)
	if err != nil {
		return err
	}
	switch {
	case !watch && asJSON:
		return p.printJSON(v.object)
	case !watch:
		return p.print(v, on)
	case terminal(p.env.Stdout) && !asJSON:
		return p.redraw(ctx, look, v, on)
	}
	return p.changes(ctx, look, v, on, asJSON)
}

func (p *program) print(v view, on painter) error {
	var text bytes.Buffer
	v.text(&text, on)
	_, err := p.env.Stdout.Write(text.Bytes())
	return err
}

// redraw keeps one screen up to date, in its place: what is shown is overwritten, not cleared, so that nothing flickers. A look
// that fails is said below what was seen last.
func (p *program) redraw(ctx context.Context, look func(context.Context) (view, error), v view, on painter) error {
	const clear, home, restOfLine, restOfScreen = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"
	trouble := ""
	fmt.Fprint(p.env.Stdout, clear)
	for {
		var text bytes.Buffer
		v.text(&text, on)
		if trouble != "" {
			fmt.Fprintf(&text, "\n%s %s\n", on.paint(red, "cannot look:"), trouble)
		}
		fmt.Fprintf(&text, "\n%s, every %v; Ctrl-C ends\n", p.now().Format(time.TimeOnly), p.watchEvery)
		fmt.Fprint(p.env.Stdout, home+strings.ReplaceAll(text.String(), "\n", restOfLine+"\n")+restOfScreen)
		if !p.pause(ctx) {
			return nil
		}
		next, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			trouble = oneLine(err.Error())
		default:
			v, trouble = next, ""
		}
	}
}

// changes prints what there is and then, line by line, what becomes another; as JSON the whole whenever it does.
func (p *program) changes(ctx context.Context, look func(context.Context) (view, error), v view, on painter, asJSON bool) error {
	show := func() error {
		if asJSON {
			return p.printJSON(v.object)
		}
		return p.print(v, on)
	}
	if err := show(); err != nil {
		return err
	}
	trouble := ""
	for p.pause(ctx) {
		next, err := look(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			if text := oneLine(err.Error()); text != trouble && !asJSON {
				p.printf("%s  cannot look: %s\n", p.now().UTC().Format(time.DateTime), text)
				trouble = text
			}
			continue
		}
		before := v
		v, trouble = next, ""
		changed := differ(before.object, next.object)
		if len(changed) > 0 && asJSON {
			if err := p.printJSON(v.object); err != nil {
				return err
			}
			continue
		}
		for _, r := range changed {
			p.change(on, r)
		}
	}
	return nil
}

// change is one line about an app that is not as it was.
func (p *program) change(on painter, r deployment.Receipt) {
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s  %s in %s on %s: %s", p.now().UTC().Format(time.DateTime), release.CleanText(r.App, 63), release.CleanText(r.Environment, 63),
		release.CleanText(r.Server, 63), on.outcome(deployment.Outcome(state(r)), state(r)))
	if r.Live.Hash != "" {
		fmt.Fprintf(&text, ", live %s", release.CleanText(named(r.Live.Seq, r.Live.Hash), 80))
	}
	var more bytes.Buffer
	notes(&more, "", r)
	for line := range strings.Lines(more.String()) {
		fmt.Fprintf(&text, "; %s", strings.TrimSpace(strings.TrimPrefix(line, ": ")))
	}
	p.printf("%s\n", text.String())
}

// differ gives the receipts that are new or say another thing than before. When a server looked last changes all the time and
// means nothing.
func differ(before, now deployment.Overview) (changed []deployment.Receipt) {
	said := map[string]bool{}
	text := func(r deployment.Receipt) string {
		r.Seen = ""
		out, err := json.Marshal(r)
		if err != nil {
			return err.Error()
		}
		return string(out)
	}
	for _, r := range before.Apps {
		said[text(r)] = true
	}
	for _, r := range now.Apps {
		if !said[text(r)] {
			changed = append(changed, r)
		}
	}
	return changed
}

// pause waits for the next look; false when the person has seen enough.
func (p *program) pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(p.watchEvery):
		return ctx.Err() == nil
	}
}
