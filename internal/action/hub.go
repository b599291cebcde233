package action

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/github"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

// hub keeps the GitHub deployment of the run: queued until a server has answered, in_progress until the last word, then
// success only where every awaited server is live and healthy, or nobody was to be awaited; failure where servers said no;
// error where nothing is known. GitHub is told, never asked: what goes wrong here is a warning, and the release goes on.
type hub struct {
	log     *log
	client  *github.Client // nil: there is no GitHub to speak to
	options publish.Options
	sha     string // of the run
	runID   string
	runURL  string

	id      int64 // 0: none
	telling sync.WaitGroup
	hush    context.CancelFunc // ends what is being told; nil when nothing is
}

// begin adopts or creates the deployment. One that GitHub itself made for the job is under way already.
func (h *hub) begin(ctx context.Context, r *publish.Result) {
	mode := h.options.Deployment
	if h.client == nil || mode == "off" {
		return
	}
	// The release does not wait for a GitHub that hangs.
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if mode == "auto" || mode == "adopt" {
		id, found, err := h.client.Adopt(ctx, h.sha, r.Environment, h.runID)
		switch {
		case err != nil:
			h.warn(err)
			return
		case found:
			h.id = id
			h.log.Line(publish.Plain, fmt.Sprintf("GitHub deployment %d of this job is adopted", id))
			return
		case mode == "adopt":
			h.log.Warn("GitHub deployment: this job has none to adopt; give the job an environment, or set deployment: create")
			return
		}
	}
	ref := r.Version
	if !release.IsCommit(ref) {
		ref = h.sha
	}
	id, err := h.client.CreateDeployment(ctx, github.DeploymentRequest{
		App: r.App, Ref: ref, Environment: r.Environment, Production: r.Environment == "production",
		Description: fmt.Sprintf("%s %s by Towline", r.Command, release.ShortHash(r.Version)),
		Payload:     map[string]string{"version": r.Version, "sha256": r.Artifact.SHA256},
	})
	if err != nil {
		h.warn(err)
		return
	}
	h.id = id
	h.log.Line(publish.Plain, fmt.Sprintf("GitHub deployment %d", id))
	h.set(ctx, "queued", "in the bucket; no server has answered yet")
}

// heard says that the first server has answered, while the run listens on.
func (h *hub) heard(ctx context.Context, who string) {
	if h.id == 0 {
		return
	}
	// The run may be over before GitHub has answered; finish waits for that.
	ctx, h.hush = context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	h.telling.Go(func() { h.set(ctx, "in_progress", release.CleanText(who, 100)+" is at work on it") })
}

// finish says how it ended.
func (h *hub) finish(ctx context.Context, r *publish.Result, err error) {
	if h.id == 0 {
		return
	}
	if h.hush != nil { // what is no news any more gets a moment, lest it come after what is
		late := time.AfterFunc(time.Second, h.hush)
		h.telling.Wait()
		late.Stop()
		h.hush()
	}
	state := "success"
	switch {
	case r.Cancelled:
		h.set(ctx, "error", r.Reason)
		return
	case err != nil, r.Outcome == deployment.TimedOut:
		state = "error"
	case r.Outcome == deployment.Superseded:
		state = "inactive"
	case r.Outcome == deployment.Failed, r.Outcome == deployment.RolledBack, r.Outcome == deployment.Broken, r.Outcome == deployment.Held:
		state = "failure"
	}
	text := string(r.Outcome)
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	h.set(ctx, state, text)
	if state == "success" {
		if err := h.client.Deactivate(ctx, r.App, r.Environment, h.id); err != nil {
			h.log.Debug(fmt.Sprintf("GitHub deployment: %v", err))
		}
	}
}

func (h *hub) set(ctx context.Context, state, text string) {
	err := h.client.SetStatus(ctx, h.id, github.Status{State: state, Description: text, LogURL: h.runURL, EnvironmentURL: h.options.EnvironmentURL})
	if err != nil {
		h.warn(err)
	}
}

// warn says what GitHub did not take. That a cancelled run could not say everything is no news.
func (h *hub) warn(err error) {
	if !errors.Is(err, context.Canceled) {
		h.log.Warn(fmt.Sprintf("GitHub deployment: %v", err))
	}
}
