package github

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/test/fakegithub"
)

func TestDeploymentFromStartToEnd(t *testing.T) {
	c, s, _ := start(t)
	ctx := t.Context()
	id, err := c.CreateDeployment(ctx, DeploymentRequest{
		App: "nodeapi", Ref: left, Environment: "production", Production: true, Payload: map[string]string{"seq": "184", "tool": "other"},
		Description: strings.Repeat("é", 141),
	})
	if err != nil {
		t.Fatal(err)
	}
	all := s.Deployments()
	if len(all) != 1 || all[0].ID != id || all[0].SHA != left || all[0].Environment != "production" || !all[0].Production || all[0].Transient {
		t.Errorf("got %+v, want one production deployment %d of %s", all, id, left)
	}
	if got, want := all[0].Description, strings.Repeat("é", 139)+"…"; got != want {
		t.Errorf("got description %q, want %q", got, want)
	}
	var payload map[string]string
	if err := json.Unmarshal(all[0].Payload, &payload); err != nil || payload["seq"] != "184" || payload["tool"] != "towline" || payload["app"] != "nodeapi" {
		t.Errorf("got payload %s, want seq, and our tool and app", all[0].Payload)
	}
	for _, status := range []Status{
		{State: "queued", LogURL: "https://github.com/acme/nodeapi/actions/runs/77"},
		{State: "in_progress"},
		{State: "success", Description: strings.Repeat("x", 200), EnvironmentURL: "https://nodeapi.example.com"},
	} {
		if err := c.SetStatus(ctx, id, status); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, status := range s.Statuses(id) {
		got = append(got, fmt.Sprint(status.State, len([]rune(status.Description)), status.LogURL, status.EnvironmentURL))
	}
	want := []string{"queued0https://github.com/acme/nodeapi/actions/runs/77", "in_progress0", "success140https://nodeapi.example.com"}
	if !slices.Equal(got, want) {
		t.Errorf("got statuses %q, want %q", got, want)
	}
	if err := c.SetStatus(ctx, 999, Status{State: "success"}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "deployments: write") {
		t.Errorf("got %v, want fs.ErrPermission and the missing line", err)
	}
}

func TestAdopt(t *testing.T) {
	c, s, _ := start(t)
	page := "https://github.com/acme/nodeapi/actions/runs/"
	s.AddDeployment(fakegithub.Deployment{SHA: left, Environment: "staging"}, fakegithub.Status{State: "in_progress", LogURL: page + "77/job/1"})
	s.AddDeployment(fakegithub.Deployment{SHA: right, Environment: "production"}, fakegithub.Status{State: "in_progress", LogURL: page + "77/job/2"})
	want := s.AddDeployment(fakegithub.Deployment{SHA: left, Environment: "production"},
		fakegithub.Status{State: "queued"}, fakegithub.Status{State: "in_progress", LogURL: page + "77/job/3"})
	s.AddDeployment(fakegithub.Deployment{SHA: left, Environment: "production"}, fakegithub.Status{State: "success", LogURL: page + "771/job/4"})
	s.AddDeployment(fakegithub.Deployment{SHA: left, Environment: "production"})

	if id, found, err := c.Adopt(t.Context(), left, "production", "77"); id != want || !found || err != nil {
		t.Errorf("got %d, %t, %v, want %d", id, found, err, want)
	}
	for _, run := range []string{"7", "78", ""} {
		if id, found, err := c.Adopt(t.Context(), left, "production", run); found || err != nil {
			t.Errorf("run %q: got %d, %t, %v, want none", run, id, found, err)
		}
	}
	// What an earlier step of this run made, maybe for another app, is not the job's.
	id, err := c.CreateDeployment(t.Context(), DeploymentRequest{App: "worker", Ref: left, Environment: "production"})
	if err == nil {
		err = c.SetStatus(t.Context(), id, Status{State: "success", LogURL: page + "77"})
	}
	if got, found, aerr := c.Adopt(t.Context(), left, "production", "77"); got != want || !found || err != nil || aerr != nil {
		t.Errorf("beside one of ours: got %d, %t, %v, %v, want %d", got, found, err, aerr, want)
	}
	before := len(s.Requests())
	for range 40 {
		s.AddDeployment(fakegithub.Deployment{SHA: left, Environment: "production"})
	}
	if _, found, err := c.Adopt(t.Context(), left, "production", "77"); found || err != nil {
		t.Errorf("got %t, %v, want none among the newest", found, err)
	}
	if got := len(s.Requests()) - before; got != 1+maxAdopt {
		t.Errorf("got %d calls, want %d", got, 1+maxAdopt)
	}
}

// Which of two deployments of a run is this job's cannot be known; one that has ended is an earlier attempt's.
func TestAdoptTakesNoneOfSeveral(t *testing.T) {
	c, s, _ := start(t)
	of := func(state string) int64 {
		return s.AddDeployment(fakegithub.Deployment{SHA: left, Environment: "production"}, fakegithub.Status{State: state, LogURL: "https://github.com/acme/nodeapi/actions/runs/9/job/1"})
	}
	of("failure")
	mine := of("in_progress")
	if id, found, err := c.Adopt(t.Context(), left, "production", "9"); err != nil || !found || id != mine {
		t.Errorf("beside one that has ended: got %d, %v, %v, want %d", id, found, err, mine)
	}
	of("in_progress")
	if id, found, err := c.Adopt(t.Context(), left, "production", "9"); err != nil || found {
		t.Errorf("two: got %d, %v, %v, want none", id, found, err)
	}
}

// A call that stopped half-way has closed the oldest, so that the next one goes on where it ended.
func TestDeactivateGoesOnWhereItEnded(t *testing.T) {
	c, s, _ := start(t)
	var ids []int64
	for range 3 {
		id, err := c.CreateDeployment(t.Context(), DeploymentRequest{App: "nodeapi", Ref: left, Environment: "production", Production: true})
		if err == nil {
			err = c.SetStatus(t.Context(), id, Status{State: "success"})
		}
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	state := func(id int64) string {
		all := s.Statuses(id)
		return all[len(all)-1].State
	}
	if err := c.SetStatus(t.Context(), ids[0], Status{State: "inactive", Description: replacedBy + "3"}); err != nil { // and then it was killed
		t.Fatal(err)
	}
	if err := c.Deactivate(t.Context(), "nodeapi", "production", ids[2]); err != nil {
		t.Fatal(err)
	}
	if state(ids[0]) != "inactive" || state(ids[1]) != "inactive" || state(ids[2]) != "success" {
		t.Errorf("got %s, %s, %s, want inactive, inactive, success", state(ids[0]), state(ids[1]), state(ids[2]))
	}
}

func TestDeactivate(t *testing.T) {
	c, s, _ := start(t)
	ctx := t.Context()
	made := func(app, environment, state string) int64 {
		t.Helper()
		id, err := c.CreateDeployment(ctx, DeploymentRequest{App: app, Ref: left, Environment: environment, Production: true})
		if err == nil {
			err = c.SetStatus(ctx, id, Status{State: state})
		}
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	success := fakegithub.Status{State: "success"}
	old, failed := made("nodeapi", "production", "success"), made("nodeapi", "production", "failure")
	otherApp, staging := made("worker", "production", "success"), made("nodeapi", "staging", "success")
	killed, queued := made("nodeapi", "production", "in_progress"), made("nodeapi", "production", "queued")
	theirs := s.AddDeployment(fakegithub.Deployment{SHA: left, Environment: "production", Production: true}, success)
	asText := s.AddDeployment(fakegithub.Deployment{
		SHA: left, Environment: "production", Payload: json.RawMessage(`"{\"tool\":\"towline\",\"app\":\"nodeapi\"}"`),
	}, success)
	keep := made("nodeapi", "production", "success")
	newer := made("nodeapi", "production", "success")

	if err := c.Deactivate(ctx, "nodeapi", "production", keep); err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]struct {
		id   int64
		want string
	}{
		"old": {old, "inactive"}, "failed": {failed, "failure"}, "of another app": {otherApp, "success"}, "staging": {staging, "success"},
		"of a run that was killed": {killed, "inactive"}, "of one killed earlier": {queued, "inactive"}, "theirs": {theirs, "success"}, "with a text as payload": {asText, "inactive"},
		"kept": {keep, "success"}, "newer": {newer, "success"},
	} {
		statuses := s.Statuses(k.id)
		if got := statuses[len(statuses)-1].State; got != k.want {
			t.Errorf("%s: got %s, want %s", name, got, k.want)
		}
	}
	// What was replaced ends the search: all that is older has been looked at. What is inactive for another reason does not.
	superseded := made("nodeapi", "production", "inactive")
	keep = made("nodeapi", "production", "success")
	for i, want := range []int{1 + 4 + 2, 1 + 2} { // the list, four statuses read and two set; then the list and two read
		before := len(s.Requests())
		if err := c.Deactivate(ctx, "nodeapi", "production", keep); err != nil {
			t.Fatal(err)
		}
		if got := len(s.Requests()) - before; got != want {
			t.Errorf("time %d: got %d calls, want %d", i+1, got, want)
		}
	}
	if s := s.Statuses(newer); s[len(s)-1].State != "inactive" {
		t.Errorf("behind a superseded deployment, %d: got %+v", superseded, s)
	}
	for range 20 {
		keep = made("nodeapi", "production", "success")
	}
	before := len(s.Requests())
	if err := c.Deactivate(ctx, "nodeapi", "production", keep); err != nil {
		t.Fatal(err)
	}
	if got, most := len(s.Requests())-before, 1+2*maxDeactivate; got > most {
		t.Errorf("got %d calls, want at most %d", got, most)
	}
}
