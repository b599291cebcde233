package page

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
)

// spaced is a text with spaces at which a line may end.
func spaced(text string) string { return strings.ReplaceAll(text, "\u00a0", " ") }

func TestStates(t *testing.T) {
	bad := errors.New("no")
	live := deployment.ReceiptLive{Hash: "abc"}
	for _, test := range []struct {
		receipt deployment.Receipt
		ready   error
		want    string
	}{
		{deployment.Receipt{Live: live, Deployment: &deployment.Record{Outcome: deployment.Deployed}}, nil, "live"},
		{deployment.Receipt{Live: live, Deployment: &deployment.Record{}}, nil, "deploying"},
		{deployment.Receipt{Live: live, Deployment: &deployment.Record{Outcome: deployment.RolledBack}}, nil, "rolled back"},
		{deployment.Receipt{Live: live, Deployment: &deployment.Record{Outcome: deployment.Broken}}, bad, "broken"},
		{deployment.Receipt{Live: live}, bad, "not ready"},
		{deployment.Receipt{Live: live, Held: "lunch"}, nil, "held"},
		{deployment.Receipt{Live: live, Status: "refused: x"}, nil, "pointer refused"},
		{deployment.Receipt{Live: live, Status: "stale: the pointer expired"}, nil, "stale"},
		{deployment.Receipt{Status: "nothing is published yet: x"}, bad, "waiting"},
	} {
		if got, _ := state(test.receipt, test.ready); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.receipt, got, test.want)
		}
	}
	for ms, want := range map[int64]string{0: "", 20: "20 ms", 1900: "1.9 s", 59_000: "59 s", 61_000: "1 min 1 s", 7_260_000: "2 h 1 min"} {
		if got := spaced(took(ms)); got != want {
			t.Errorf("%d ms: got %q, want %q", ms, got, want)
		}
	}
	for n, want := range map[int64]string{0: "", 900: "900 B", 96_256: "96 kB", 1_250_000: "1.2 MB", 52_000_000: "52 MB"} {
		if got := spaced(size(n)); got != want {
			t.Errorf("%d bytes: got %q, want %q", n, got, want)
		}
	}
}

func TestNotes(t *testing.T) {
	failed := &deployment.Record{Hash: "abcdefabcdefabcd", Outcome: deployment.Failed, Reason: "no space"}
	for _, test := range []struct {
		receipt deployment.Receipt
		ready   error
		want    string
	}{
		{deployment.Receipt{}, nil, ""},
		{deployment.Receipt{Held: "lunch", Status: "on hold: lunch"}, nil, "warn Held: lunch"},
		{deployment.Receipt{Held: "lunch", Status: "on hold: lunch; release 1-a was changed on this server"}, nil, "warn Held: lunch|warn : release 1-a was changed on this server"},
		{deployment.Receipt{Held: "overridden by a command on this server", Status: "a command on this server overrides the pointer; resume follows it again"}, nil,
			"warn : a command on this server overrides the pointer; resume follows it again"},
		{deployment.Receipt{Held: "overridden by a command on this server"}, nil, "warn Held: overridden by a command on this server"},
		{deployment.Receipt{Status: "stale: the pointer expired at X"}, nil, "warn Stale: the pointer expired at X"},
		{deployment.Receipt{Status: "not ready: no unit"}, errors.New("not ready: no unit"), "bad Not ready: no unit"},
		{deployment.Receipt{Status: "refused: forged"}, errors.New("not ready: no unit"), "bad Not ready: no unit|warn Pointer refused: forged"},
		{deployment.Receipt{Status: "nothing is published yet: object x"}, errors.New("unread"), "idle : nothing is published yet"},
		{deployment.Receipt{Status: "the last deployment failed; it is tried again", Deployment: failed}, nil, "warn Failed: abcdefabcdef: no space|warn : the last deployment failed; it is tried again"},
		{deployment.Receipt{Status: "release abc did not become healthy; it is not tried again until then"}, nil, "warn Quarantined: not tried again until then"},
	} {
		var got []string
		for _, n := range (App{Detail: deployment.Detail{Receipt: test.receipt}, Ready: test.ready}).notes("warn") {
			got = append(got, n.Tone+" "+n.Word+": "+n.Text)
		}
		if strings.Join(got, "|") != test.want {
			t.Errorf("%+v: got %q, want %q", test.receipt, got, test.want)
		}
	}
}

// A link leads where the run's address does, if a browser may be led there.
func TestOrigin(t *testing.T) {
	for address, want := range map[string]origin{
		"https://github.com/acme/shop/actions/runs/42": {Run: "https://github.com/acme/shop/actions/runs/42", RunText: "run 42",
			Compare: "https://github.com/acme/shop/compare/" + older + "..." + newer, CompareOf: older[:12]},
		"https://ci.example/job/7":               {Run: "https://ci.example/job/7", RunText: "run"},
		"https://ci.example/actions/runs/x y":    {Run: "https://ci.example/actions/runs/x%20y", RunText: "run", Compare: "https://ci.example/compare/" + older + "..." + newer, CompareOf: older[:12]},
		"javascript:alert(1)":                    {},
		"data:text/html,x":                       {},
		"https://user:secret@ci.example/":        {},
		"/actions/runs/1":                        {},
		"https://a/" + strings.Repeat("x", 1000): {},
		"":                                       {},
	} {
		got := newOrigin(deployment.Record{Hash: newer, Origin: &deployment.Origin{Run: address}}, older)
		if got != want {
			t.Errorf("%q: got %+v, want %+v", address, got, want)
		}
	}
	local := deployment.Record{Events: []deployment.Event{{Message: "asked for on this server: too slow"}}}
	if got := newOrigin(local, ""); got != (origin{Who: "a command on this server", Why: "too slow"}) {
		t.Errorf("a command: got %+v", got)
	}
}

func TestSteps(t *testing.T) {
	event := func(step deployment.Step, state deployment.State) deployment.Event {
		return deployment.Event{Step: step, State: state, Time: now.Add(-3 * time.Second).Format(time.RFC3339)}
	}
	for _, test := range []struct {
		events []deployment.Event
		want   string
	}{
		{nil, "fetch to come, unpack to come, activate to come, check to come, confirm to come"},
		{[]deployment.Event{event("fetch", "done"), event("unpack", "started")}, "fetch done, unpack under way 3 s, activate to come, check to come, confirm to come"},
		{[]deployment.Event{event("activate", "progress")}, "activate under way 3 s, check to come, confirm to come"},
		{[]deployment.Event{event("check", "failed"), event("roll back", "started")}, "check failed, roll back under way 3 s"},
	} {
		var got []string
		for _, s := range steps(test.events, now, true) {
			got = append(got, strings.TrimSpace(s.Name+" "+s.Word+" "+spaced(s.Took)))
		}
		if strings.Join(got, ", ") != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// Every text can be read on what it stands on: 4.5 to 1, as WCAG 2 has it, light and dark.
func TestContrast(t *testing.T) {
	light, dark, found := strings.Cut(style, "prefers-color-scheme: dark")
	if !found {
		t.Fatal("no dark theme")
	}
	variable := regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6})`)
	seen := 0
	for name, css := range map[string]string{"light": light, "dark": dark} {
		colours := map[string]string{}
		for _, m := range variable.FindAllStringSubmatch(css, -1) {
			colours[m[1]] = m[2]
		}
		check := func(ink string, grounds ...string) {
			for _, ground := range grounds {
				seen++
				if got := contrast(t, colours[ink], colours[ground]); got < 4.5 {
					t.Errorf("%s: --%s on --%s: got %.2f, want at least 4.5", name, ink, ground, got)
				}
			}
		}
		check("ink", "ground", "card", "inset", "good-soft", "busy-soft", "warn-soft", "bad-soft", "idle-soft")
		check("quiet", "ground", "card")
		for _, tone := range []string{"good", "busy", "warn", "bad", "idle"} {
			check(tone, "ground", "card", tone+"-soft")
		}
		check("busy", "good-soft", "warn-soft", "bad-soft", "busy-soft") // links
		check("quiet", "busy-soft")
		check("good", "busy-soft")
		check("bad", "busy-soft")
	}
	if seen < 50 {
		t.Errorf("got %d pairs", seen)
	}
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(t *testing.T, colour string) (l float64) {
	t.Helper()
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		if len(colour) != 6 {
			t.Fatal(fmt.Errorf("colour %q is not defined", colour))
		}
		n, err := strconv.ParseUint(colour[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		l += weight * c
	}
	return l
}
