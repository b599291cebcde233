package health

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deployment"
)

func TestAlive(t *testing.T) {
	sick := script{lines: []moment[string]{{0, "database is gone"}}}
	for _, test := range []struct {
		name  string
		unit  deployment.UnitState
		err   error
		probe Probe
		want  string // in the error; empty: alive
	}{
		{name: "no unit, no probe"},
		{name: "active", unit: unit("active/running"), probe: script{}},
		{name: "reloading", unit: unit("reloading/reload")},
		{name: "oneshot", unit: unit("active/exited", kind("oneshot"))},
		{name: "stopped", unit: unit("inactive/dead"), probe: script{}, want: "inactive"},
		{name: "crashed", unit: unit("failed/failed", ended("exit-code", 7)), want: "status 7"},
		{name: "in a crash loop", unit: unit("activating/auto-restart", ended("exit-code", 7)), want: "status 7"},
		{name: "an empty shell", unit: unit("active/exited"), want: "main process is gone"},
		{name: "nobody can tell", err: errors.New("no bus"), want: "no bus"},
		{name: "no unit, sick", probe: sick, want: "database is gone"},
		{name: "active but sick", unit: unit("active/running"), probe: sick, want: "database is gone"},
		{name: "no answer", unit: unit("active/running"), probe: script{takes: time.Hour}, want: "no answer in time"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				if s, ok := test.probe.(script); ok {
					s.began = began
					test.probe = s
				}
				err := Gate{
					Unit:  func(context.Context) (deployment.UnitState, error) { return test.unit, test.err },
					Probe: test.probe,
				}.Alive(t.Context())
				switch {
				case test.want == "" && err != nil:
					t.Errorf("got %v, want it alive", err)
				case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
					t.Errorf("got %v, want %q", err, test.want)
				}
				if took := time.Since(began); took > attempt {
					t.Errorf("took %v, want at most %v", took, attempt)
				}
			})
		})
	}
	if err := (Gate{}).Alive(t.Context()); err != nil {
		t.Errorf("nothing to look at: got %v", err)
	}
}
