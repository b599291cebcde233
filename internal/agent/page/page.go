// Package page is the agent's status page: what is live on this server, since when, who brought it, and how it came about.
//
// The page is one HTML document without foreign assets. It is made of parts, the head and one for each app, each an element
// with an id. Its own script keeps it up to date: it is sent the parts that have changed and puts them in the place of the
// old ones, leaving alone what is the same in both, so that focus and open folds stay. Without the script the document
// itself asks again.
//
// Invariants: what others wrote is text, wherever it stands; a policy allows this style and this script and nothing else;
// what one app takes is bounded, however long its texts are.
package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

const (
	calmRefresh = 30 // seconds until the page asks again, where there is no script
	busyRefresh = 2  // while something is being deployed

	unpublished = "nothing is published yet" // what the status of such an app begins with
)

var (
	//go:embed page.css
	styleSource string
	//go:embed page.js
	scriptSource string

	style, script = lean(styleSource), lean(scriptSource)
)

// lean is a source without what only its readers need: indentation and lines of comment.
func lean(source string) string {
	var b strings.Builder
	for text := range strings.Lines(source) {
		if text = strings.TrimSpace(text); text != "" && !strings.HasPrefix(text, "//") {
			b.WriteString(text + "\n")
		}
	}
	return b.String()
}

// Server is what the page is about.
type Server struct {
	Name    string
	Pin     string // of the TLS certificate; empty without
	Started time.Time
	Apps    []App
}

// App is one app on it.
type App struct {
	Detail      deployment.Detail  // Receipt without events
	Running     *deployment.Record // the deployment under way, with its events; nil when there is none
	Ready       error              // why the app could not be deployed now
	Environment string
	Health      config.Health
}

// Part is one element of the page. The head comes first, then the apps.
type Part struct{ HTML, Digest string }

// ID stands for all of the parts: two pages with the same one show the same.
func ID(parts []Part) string {
	var all []string
	for _, p := range parts {
		all = append(all, p.Digest)
	}
	return digest(strings.Join(all, " "))
}

func digest(text string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	return fmt.Sprintf("%016x", h.Sum64())
}

// Parts are the parts of the page as it is at now.
func (s Server) Parts(now time.Time) []Part { return s.view(now).parts() }

// HTML is the page as it is at now.
func (s Server) HTML(now time.Time) string { return s.view(now).html() }

// view is all that the page shows, in words.
type view struct {
	Server, Version, Pin string
	Started, Now         moment
	Refresh              int
	Headline             string
	Tone                 string // good, busy, warn, bad, idle
	Apps                 []appView
}

func (s Server) view(now time.Time) view {
	v := view{
		Server: s.Name, Version: release.Version, Pin: s.Pin, Refresh: calmRefresh,
		Started: newMoment(s.Started.Format(time.RFC3339)), Now: newMoment(now.Format(time.RFC3339)),
	}
	tones := map[string]int{}
	for _, a := range s.Apps {
		shown := a.view(now)
		shown.Alone = len(s.Apps) == 1
		tones[shown.Tone]++
		v.Apps = append(v.Apps, shown)
	}
	v.Headline, v.Tone = headline(tones, len(s.Apps))
	if tones["busy"] > 0 {
		v.Refresh = busyRefresh
	}
	return v
}

// Policy is the Content-Security-Policy that the page needs: its own style, its own script, what that script asks of the
// agent, and the icon that it brings.
func Policy() string {
	return "default-src 'none'; style-src " + hashed(style) + "; script-src " + hashed(script) +
		"; connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}

func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func headline(tones map[string]int, apps int) (text, tone string) {
	switch n := tones["bad"] + tones["warn"]; {
	case n == 1:
		return "1 app needs a look", worse(tones)
	case n > 1:
		return fmt.Sprintf("%d apps need a look", n), worse(tones)
	case apps == 0:
		return "No apps here", "idle"
	case tones["busy"] > 0:
		return "Deploying", "busy"
	case tones["idle"] == apps:
		return "Nothing is published yet", "idle"
	}
	return "All is well", "good"
}

func worse(tones map[string]int) string {
	if tones["bad"] > 0 {
		return "bad"
	}
	return "warn"
}

// moment is a time for machines, and for people who have no script that says it in their zone. The zero value is no time.
type moment struct{ RFC, Text string }

func newMoment(text string) moment {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.IsZero() {
		return moment{}
	}
	return moment{RFC: t.UTC().Format(time.RFC3339), Text: t.UTC().Format("2006-01-02 15:04 UTC")}
}

// took is a duration in words, empty when it is not known.
func took(ms int64) string {
	switch {
	case ms <= 0:
		return ""
	case ms < 1000:
		return words("%d ms", ms)
	case ms < 10_000:
		return words("%.1f s", float64(ms)/1000)
	case ms < 60_000:
		return words("%d s", ms/1000)
	case ms < 3_600_000:
		return words("%d min %d s", ms/60_000, ms/1000%60)
	}
	return words("%d h %d min", ms/3_600_000, ms/60_000%60)
}

// clock is how long something has been under way, in whole seconds.
func clock(ms int64) string {
	if ms < 60_000 {
		return words("%d s", max(1, ms/1000))
	}
	return took(ms)
}

// size is a number of bytes in words, empty when it is not known.
func size(n int64) string {
	switch {
	case n <= 0:
		return ""
	case n < 1000:
		return words("%d B", n)
	case n < 1_000_000:
		return words("%d kB", n/1000)
	case n < 10_000_000:
		return words("%.1f MB", float64(n)/1e6)
	}
	return words("%d MB", n/1_000_000)
}

// words puts numbers into a text that is not broken into two lines.
func words(format string, values ...any) string {
	return strings.ReplaceAll(fmt.Sprintf(format, values...), " ", "\u00a0")
}
