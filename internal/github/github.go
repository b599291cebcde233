// Package github speaks to GitHub for the CI half: what a commit says, whether it is behind another, and the
// Deployments that people see on the repository's page.
//
// Parties: GitHub's REST API, on github.com or an Enterprise server, with the workflow's token. It is the only
// importer of go-github. Every call is bounded: in answers read, in retries, in pages.
//
// Invariants: a deployment is created as it is asked for, never merged first and never held back by checks (auto_merge
// false, required_contexts empty); only deployments that carry our mark in their payload are ever made inactive.
package github

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-github/v58/github"
)

const (
	publicAPI    = "https://api.github.com/"
	agent        = "towline"
	contentsRead = "contents: read"
	deployWrite  = "deployments: write"
)

// Options make a Client.
type Options struct {
	BaseURL    string       // GITHUB_API_URL, on an Enterprise server with its /api/v3; empty: github.com
	Token      string       // empty: anonymous, which can read public repositories
	Repository string       // owner/name
	HTTPClient *http.Client // nil: a plain one; only its transport and timeout are used
	Log        *slog.Logger
}

// Client calls the API for one repository. It may be used from several goroutines.
type Client struct {
	api         *github.Client
	retry       *retry
	owner, name string
}

// New checks the options; it sends nothing.
func New(o Options) (*Client, error) {
	owner, name, ok := strings.Cut(o.Repository, "/")
	if !ok || owner == "" || name == "" || strings.Contains(name, "/") {
		return nil, fmt.Errorf("repository %q: want owner/name", o.Repository)
	}
	if o.BaseURL == "" {
		o.BaseURL = publicAPI
	}
	base, err := url.Parse(strings.TrimRight(o.BaseURL, "/") + "/")
	if err != nil || base.Scheme != "https" && base.Scheme != "http" || base.Host == "" {
		return nil, fmt.Errorf("api url %q: want https://host/path", o.BaseURL)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	client := &http.Client{Timeout: 2 * time.Minute}
	if o.HTTPClient != nil {
		client.Transport, client.Timeout = o.HTTPClient.Transport, o.HTTPClient.Timeout
	}
	again := newRetry(client.Transport, o.Log)
	client.Transport = again
	// The token must not follow a redirect to another host, and no call of ours is ever redirected on purpose.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	api := github.NewClient(client)
	if o.Token != "" {
		api = api.WithAuthToken(o.Token)
	}
	api.BaseURL = base
	api.UserAgent = agent
	return &Client{api: api, retry: again, owner: owner, name: name}, nil
}

// Commit returns the first line of a commit's message, and when it was committed, RFC 3339 in UTC. The error wraps
// fs.ErrNotExist when there is no such commit.
func (c *Client) Commit(ctx context.Context, sha string) (msg, date string, err error) {
	operation := "get commit " + sha
	// One file of the commit's changes is as many as can be asked for.
	commit, _, err := c.api.Repositories.GetCommit(ctx, c.owner, c.name, url.PathEscape(sha), &github.ListOptions{PerPage: 1})
	if err != nil {
		return "", "", explain(operation, contentsRead, err)
	}
	if commit.GetSHA() == "" || commit.Commit == nil {
		return "", "", fmt.Errorf("%s: the answer is not a commit", operation)
	}
	msg, _, _ = strings.Cut(strings.TrimSpace(commit.Commit.GetMessage()), "\n")
	if at := commit.Commit.Committer.GetDate(); !at.IsZero() {
		date = at.UTC().Format(time.RFC3339)
	}
	return strings.TrimSpace(msg), date, nil
}

// Compare says where head stands, seen from base: ahead, behind, identical or diverged. The error wraps
// fs.ErrNotExist when one of them does not exist, or they have no common ancestor.
func (c *Client) Compare(ctx context.Context, base, head string) (status string, err error) {
	operation := fmt.Sprintf("compare %s...%s", base, head)
	comparison, _, err := c.api.Repositories.CompareCommits(ctx, c.owner, c.name, base, head, &github.ListOptions{PerPage: 1})
	if err != nil {
		return "", explain(operation, contentsRead, err)
	}
	switch status = comparison.GetStatus(); status {
	case "ahead", "behind", "identical", "diverged":
		return status, nil
	}
	return "", fmt.Errorf("%s: unknown status %q", operation, status)
}

// explain says what went wrong in the terms of a workflow: permission is the line that the call needs below
// `permissions:`.
func explain(operation, permission string, err error) error {
	var answer *github.ErrorResponse
	var limit *github.RateLimitError
	var secondary *github.AbuseRateLimitError
	var wrapped *url.Error
	switch {
	case errors.As(err, new(*github.AcceptedError)):
		return fmt.Errorf("%s: GitHub merged the default branch into this ref instead of creating a deployment", operation)
	case errors.As(err, &limit):
		return fmt.Errorf("%s: rate limit used up until %s", operation, limit.Rate.Reset.UTC().Format(time.RFC3339))
	case errors.As(err, &secondary):
		return fmt.Errorf("%s: too many requests in a short time: %s", operation, secondary.Message)
	case errors.As(err, &wrapped):
		return fmt.Errorf("%s: %w", operation, wrapped.Err)
	case !errors.As(err, &answer):
		return fmt.Errorf("%s: %w", operation, err)
	}
	said := answer.Message
	for _, detail := range answer.Errors {
		said += "; " + strings.TrimSpace(detail.Field+" "+detail.Code+" "+detail.Message)
	}
	switch code := answer.Response.StatusCode; code {
	case http.StatusUnauthorized:
		return fmt.Errorf("%s: the token is missing, expired, or of another server: %s: %w", operation, said, fs.ErrPermission)
	case http.StatusForbidden:
		return fmt.Errorf("%s: the token may not: the job needs `permissions: %s`: %s: %w", operation, permission, said, fs.ErrPermission)
	case http.StatusNotFound:
		missing := fs.ErrNotExist
		if permission == deployWrite { // what we create a thing below is there: not found means not allowed
			missing = fs.ErrPermission
		}
		return fmt.Errorf("%s: not found, or the token may not see it (the job needs `permissions: %s`): %w", operation, permission, missing)
	case http.StatusConflict:
		return fmt.Errorf("%s: conflict: %s", operation, said)
	case http.StatusUnprocessableEntity:
		return fmt.Errorf("%s: not accepted: %s", operation, said)
	default:
		return fmt.Errorf("%s: GitHub answered %d: %s", operation, code, said)
	}
}
