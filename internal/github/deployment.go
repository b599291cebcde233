package github

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-github/v58/github"
)

const (
	maxDescription = 140 // runes; GitHub refuses more
	maxAdopt       = 10  // deployments looked at by Adopt
	maxDeactivate  = 10  // deployments of ours looked at by Deactivate
)

// DeploymentRequest is a deployment to create.
type DeploymentRequest struct {
	App         string
	Ref         string // commit hash
	Environment string
	Description string // cut at 140 runes
	Production  bool
	Payload     map[string]string // further fields; tool and app are ours
}

// Status is one step in the life of a deployment.
type Status struct {
	State          string // queued, in_progress, success, failure, error, inactive
	Description    string // cut at 140 runes
	LogURL         string // the run's page
	EnvironmentURL string // where the app answers; empty for none
}

// replaced are the states that end when a newer deployment succeeds.
var replaced = []string{"success", "queued", "in_progress", "pending"}

const replacedBy = "replaced by deployment "

// mark is what tells our deployments from all others.
type mark struct {
	Tool string `json:"tool"`
	App  string `json:"app"`
}

// CreateDeployment creates a deployment as it is, without merging and without waiting for checks, and returns its id.
// The error wraps fs.ErrPermission when the token may not.
func (c *Client) CreateDeployment(ctx context.Context, r DeploymentRequest) (id int64, err error) {
	payload := map[string]string{}
	for key, value := range r.Payload {
		payload[key] = value
	}
	payload["tool"], payload["app"] = agent, r.App
	request := &github.DeploymentRequest{
		Ref:                   &r.Ref,
		AutoMerge:             github.Bool(false),
		RequiredContexts:      &[]string{},
		Environment:           &r.Environment,
		Description:           github.String(cut(r.Description)),
		ProductionEnvironment: &r.Production,
		TransientEnvironment:  github.Bool(false),
		Payload:               payload,
	}
	created, _, err := c.api.Repositories.CreateDeployment(ctx, c.owner, c.name, request)
	if err != nil {
		return 0, explain(fmt.Sprintf("create deployment of %s to %s", r.Ref, r.Environment), deployWrite, err)
	}
	return created.GetID(), nil
}

// SetStatus adds a status to a deployment. Other deployments are left as they are: GitHub would make inactive what
// other apps have in the environment.
func (c *Client) SetStatus(ctx context.Context, id int64, s Status) error {
	request := &github.DeploymentStatusRequest{
		State:        &s.State,
		Description:  github.String(cut(s.Description)),
		AutoInactive: github.Bool(false),
	}
	if s.LogURL != "" {
		request.LogURL = &s.LogURL
	}
	if s.EnvironmentURL != "" {
		request.EnvironmentURL = &s.EnvironmentURL
	}
	if _, _, err := c.api.Repositories.CreateDeploymentStatus(ctx, c.owner, c.name, id, request); err != nil {
		return explain(fmt.Sprintf("set status %s of deployment %d", s.State, id), deployWrite, err)
	}
	return nil
}

// Adopt finds the deployment that GitHub itself made for this run, because the job has an `environment:` line: of this
// commit and environment, with a status whose log is of this run. One that we made is another app's or another step's of
// the same run, and has its own end; one that has ended is an earlier attempt's. found is false when there is none among the newest
// ten, and when there are several, as of two jobs of a run with the same environment: which is this job's cannot be known.
func (c *Client) Adopt(ctx context.Context, sha, environment, runID string) (id int64, found bool, err error) {
	operation := fmt.Sprintf("find deployment of %s to %s", sha, environment)
	deployments, _, err := c.api.Repositories.ListDeployments(ctx, c.owner, c.name, &github.DeploymentsListOptions{
		SHA: sha, Environment: environment, ListOptions: github.ListOptions{PerPage: maxAdopt},
	})
	if err != nil {
		return 0, false, explain(operation, deployWrite, err)
	}
	matches := 0
	for _, d := range deployments[:min(len(deployments), maxAdopt)] {
		if marked(d.Payload).Tool == agent {
			continue
		}
		statuses, _, err := c.api.Repositories.ListDeploymentStatuses(ctx, c.owner, c.name, d.GetID(), &github.ListOptions{PerPage: 100})
		if err != nil {
			return 0, false, explain(operation, deployWrite, err)
		}
		if len(statuses) > 0 && slices.Contains(ended, statuses[0].GetState()) {
			continue
		}
		if slices.ContainsFunc(statuses, func(s *github.DeploymentStatus) bool {
			return ofRun(s.GetLogURL(), runID) || ofRun(s.GetTargetURL(), runID)
		}) {
			id, matches = d.GetID(), matches+1
		}
	}
	if matches != 1 {
		return 0, false, nil
	}
	return id, true, nil
}

// ended are the states after which nothing comes.
var ended = []string{"success", "failure", "error", "inactive"}

// ofRun reports whether address is a page of the run: …/actions/runs/<id>, or below it.
func ofRun(address, runID string) bool {
	u, err := url.Parse(address)
	if err != nil || runID == "" {
		return false
	}
	_, after, ok := strings.Cut(u.Path, "/actions/runs/")
	id, _, _ := strings.Cut(after, "/")
	return ok && id == runID
}

// Deactivate makes inactive what deployment keep replaced: older deployments of app to the environment that we made
// and that were successes, or that a run left open which was killed. GitHub does so by itself for successes in some
// environments only, and never for production. It looks at the newest thirty deployments, and at ten of ours at most.
func (c *Client) Deactivate(ctx context.Context, app, environment string, keep int64) error {
	operation := "deactivate older deployments to " + environment
	deployments, _, err := c.api.Repositories.ListDeployments(ctx, c.owner, c.name, &github.DeploymentsListOptions{
		Environment: environment, ListOptions: github.ListOptions{PerPage: 30},
	})
	if err != nil {
		return explain(operation, deployWrite, err)
	}
	var open []int64
	looked := 0
	for _, d := range deployments {
		if d.GetID() >= keep || !ours(d.Payload, app) {
			continue
		}
		if looked++; looked > maxDeactivate {
			break
		}
		statuses, _, err := c.api.Repositories.ListDeploymentStatuses(ctx, c.owner, c.name, d.GetID(), &github.ListOptions{PerPage: 1})
		if err != nil {
			return explain(operation, deployWrite, err)
		}
		if len(statuses) > 0 && statuses[0].GetState() == "inactive" && strings.HasPrefix(statuses[0].GetDescription(), replacedBy) {
			break // whoever replaced it has been through all that are older
		}
		if len(statuses) == 0 || slices.Contains(replaced, statuses[0].GetState()) {
			open = append(open, d.GetID())
		}
	}
	// The oldest first: where this ends half-way, what is left open is newer than what says that it was replaced.
	for _, id := range slices.Backward(open) {
		if err := c.SetStatus(ctx, id, Status{State: "inactive", Description: replacedBy + strconv.FormatInt(keep, 10)}); err != nil {
			return err
		}
	}
	return nil
}

// ours reports whether a payload carries our mark for app.
func ours(payload json.RawMessage, app string) bool {
	return marked(payload) == mark{Tool: agent, App: app}
}

// marked is the mark in a payload, empty when there is none. GitHub may hand a payload back as an object, or as a string
// that holds one.
func marked(payload json.RawMessage) (m mark) {
	var text string
	if json.Unmarshal(payload, &text) == nil {
		payload = json.RawMessage(text)
	}
	if json.Unmarshal(payload, &m) != nil {
		return mark{}
	}
	return m
}

// cut shortens a description to what GitHub takes.
func cut(s string) string {
	if runes := []rune(s); len(runes) > maxDescription {
		return string(runes[:maxDescription-1]) + "…"
	}
	return s
}
