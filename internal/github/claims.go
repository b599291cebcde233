package github

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// maxToken bounds an OIDC token, in bytes.
const maxToken = 64 << 10

// Claims are what an OIDC token says of the job that it was made for, as far as trust policies look at it. An empty one
// is not in the token.
type Claims struct {
	Issuer            string `json:"iss"`
	Audience          string `json:"-"` // the token's only one
	Subject           string `json:"sub"`
	Repository        string `json:"repository"` // owner/name
	RepositoryID      string `json:"repository_id"`
	RepositoryOwner   string `json:"repository_owner"`
	RepositoryOwnerID string `json:"repository_owner_id"`
	Ref               string `json:"ref"`
	Environment       string `json:"environment"`
	WorkflowRef       string `json:"workflow_ref"`
	JobWorkflowRef    string `json:"job_workflow_ref"`
	EventName         string `json:"event_name"`
}

// ParseClaims reads the claims of a token without verifying its signature: they are to be shown to the person whose
// token it is, never to be believed. Errors hold nothing of the token.
func ParseClaims(token string) (Claims, error) {
	const operation = "read claims of the id token"
	parts := strings.Split(strings.TrimSpace(token), ".")
	if len(token) > maxToken || len(parts) != 3 {
		return Claims{}, fmt.Errorf("%s: want three parts with dots between, at most %d bytes", operation, maxToken)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return Claims{}, errors.New(operation + ": its second part is not base64")
	}
	var c Claims
	var audience struct {
		One json.RawMessage `json:"aud"`
	}
	if json.Unmarshal(payload, &c) != nil || json.Unmarshal(payload, &audience) != nil {
		return Claims{}, errors.New(operation + ": its second part is not the JSON of claims")
	}
	var list []string
	if json.Unmarshal(audience.One, &c.Audience) != nil {
		if json.Unmarshal(audience.One, &list) != nil || len(list) != 1 {
			return Claims{}, errors.New(operation + ": want one audience")
		}
		c.Audience = list[0]
	}
	return c, nil
}

// HasIDs reports whether the subject names owner and repository by their numbers too, as GitHub writes it for every
// repository that was created, renamed or transferred since the middle of 2026. Numbers are never given again; names are.
func (c Claims) HasIDs() bool {
	owner, name, ok := strings.Cut(c.Repository, "/")
	return ok && c.RepositoryID != "" && c.RepositoryOwnerID != "" &&
		strings.HasPrefix(c.Subject, fmt.Sprintf("repo:%s@%s/%s@%s:", owner, c.RepositoryOwnerID, name, c.RepositoryID))
}

// lines are the claims as "name  value", those that are there.
func (c Claims) lines() []string {
	var out []string
	for _, claim := range []struct{ name, value string }{
		{"iss", c.Issuer}, {"aud", c.Audience}, {"sub", c.Subject}, {"repository", c.Repository}, {"repository_id", c.RepositoryID},
		{"repository_owner", c.RepositoryOwner}, {"repository_owner_id", c.RepositoryOwnerID}, {"ref", c.Ref},
		{"environment", c.Environment}, {"workflow_ref", c.WorkflowRef}, {"job_workflow_ref", c.JobWorkflowRef}, {"event_name", c.EventName},
	} {
		if claim.value != "" {
			out = append(out, fmt.Sprintf("  %-20s %s", claim.name, claim.value))
		}
	}
	return out
}
