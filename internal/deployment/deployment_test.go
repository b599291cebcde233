package deployment

import (
	"encoding/json"
	"testing"
)

func TestWorst(t *testing.T) {
	for _, c := range []struct {
		in   []Outcome
		want Outcome
	}{
		{nil, ""},
		{[]Outcome{Deployed}, Deployed},
		{[]Outcome{Unchanged, Deployed}, Deployed},
		{[]Outcome{Deployed, Superseded}, Superseded},
		{[]Outcome{Held, Superseded}, Held},
		{[]Outcome{TimedOut, Held}, TimedOut},
		{[]Outcome{RolledBack, TimedOut}, RolledBack},
		{[]Outcome{Failed, RolledBack}, Failed},
		{[]Outcome{Broken, Failed, Deployed}, Broken},
	} {
		if got := Worst(c.in...); got != c.want {
			t.Errorf("Worst(%q): got %q, want %q", c.in, got, c.want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for want, outcomes := range map[int][]Outcome{
		0: {Deployed, Unchanged, Skipped, Published, Superseded, DryRun},
		1: {Failed, TimedOut},
		3: {RolledBack, Broken},
		5: {Held},
	} {
		for _, o := range outcomes {
			if got := o.ExitCode(); got != want {
				t.Errorf("%s: got %d, want %d", o, got, want)
			}
		}
	}
}

// The names of the fields are read by scripts; a heartbeat carries nothing that it does not need.
func TestEventEncoding(t *testing.T) {
	got, err := json.Marshal(Event{N: 3, Time: "2026-11-23T13:06:43.120Z", Deployment: "000001-x", App: "web", Server: "s1", Seq: 7, Hash: "abc", State: Heartbeat})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"n":3,"time":"2026-11-23T13:06:43.120Z","deployment":"000001-x","app":"web","server":"s1","seq":7,"hash":"abc","state":"heartbeat"}`
	if string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if (Event{State: Done}).Terminal() || !(Event{Outcome: Held}).Terminal() {
		t.Error("an event is terminal exactly when it has an outcome")
	}
}
