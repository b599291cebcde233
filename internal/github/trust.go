package github

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

var roleARN = regexp.MustCompile(`^arn:(aws[a-z-]*):iam::([0-9]+):role/[A-Za-z0-9+=,.@_/-]+$`)

// trustPolicy is the document that says who may take a role.
type trustPolicy struct {
	Version   string
	Statement []trustStatement
}

type trustStatement struct {
	Effect    string
	Principal struct{ Federated string }
	Action    string
	Condition struct{ StringEquals map[string]string }
}

// TrustPolicy is the JSON of the narrowest AWS trust policy that lets the job with these claims take role, an ARN: its
// audience and subject exactly, without wildcards. Where the subject holds names alone, repository_id is asked for too, so
// that whoever takes over a name that became free does not take over the role.
func TrustPolicy(role string, c Claims) ([]byte, error) {
	provider, err := providerARN(role, c)
	if err != nil {
		return nil, err
	}
	s := trustStatement{Effect: "Allow", Action: "sts:AssumeRoleWithWebIdentity"}
	s.Principal.Federated = provider
	key := strings.TrimPrefix(c.Issuer, "https://") + ":"
	s.Condition.StringEquals = map[string]string{key + "aud": c.Audience, key + "sub": c.Subject}
	if !c.HasIDs() {
		s.Condition.StringEquals[key+"repository_id"] = c.RepositoryID
	}
	return json.MarshalIndent(trustPolicy{Version: "2012-10-17", Statement: []trustStatement{s}}, "", "  ")
}

// providerARN names the OIDC provider of the role's account that stands for the token's issuer.
func providerARN(role string, c Claims) (string, error) {
	match := roleARN.FindStringSubmatch(role)
	if match == nil {
		return "", fmt.Errorf("role %q: want arn:aws:iam::ACCOUNT:role/NAME", role)
	}
	issuer, ok := strings.CutPrefix(c.Issuer, "https://")
	if !ok || issuer == "" || c.Audience == "" || c.Subject == "" || c.RepositoryID == "" {
		return "", fmt.Errorf("trust policy for role %s: the token lacks iss, aud, sub or repository_id", role)
	}
	return fmt.Sprintf("arn:%s:iam::%s:oidc-provider/%s", match[1], match[2], issuer), nil
}

// ExplainRefusal says, line by line, what a person needs after AWS refused role to the job with these claims: the claims,
// a trust policy that matches them, and what else to look at. Claims hold names that people chose: the lines are to be
// printed as foreign text.
func ExplainRefusal(role string, c Claims) []string {
	out := append([]string{"The token of this job says:"}, c.lines()...)
	policy, err := TrustPolicy(role, c)
	if err != nil {
		return append(out, "There is no trust policy that would match: "+err.Error())
	}
	out = append(out, "A trust policy of "+role+" that matches this token and no other job:")
	out = append(out, strings.Split(string(policy), "\n")...)
	provider, _ := providerARN(role, c)
	out = append(out, "Check that",
		"  - the account has the identity provider "+provider,
		"  - "+c.Audience+" is among that provider's audiences",
		"  - the role has this name, in this account",
		"  - sub is what you meant: it is another one for each branch and event, and a job with `environment:` has the environment's",
	)
	if !c.HasIDs() {
		out = append(out, "sub holds the names of owner and repository without their ids, and names can become another's: repository_id is "+
			"in the policy for that. Repositories created, renamed or transferred since July 2026 have them in sub: repo:OWNER@ID/NAME@ID:…")
	}
	return out
}
