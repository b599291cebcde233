package publish

import (
	"fmt"
	"slices"
	"strings"
)

// Input is one row of the table of inputs. The action's metadata, the command line's flags and Parse all follow it.
type Input struct {
	Name     string
	Default  string   // empty where there is none; ${{ … }} is filled in by GitHub alone
	Choices  []string // the only values allowed, where there are such
	Required bool     // documented as required; path is asked for by deploy and publish alone
	Secret   bool     // never printed
	Help     string   // one sentence or two, for action.yml and --help
}

var inputs = []Input{
	{Name: "app", Required: true, Help: "Name of the app; also the first part of every key in the bucket."},
	{Name: "path", Required: true, Help: "Directory to pack, relative to the workspace. Only deploy and publish read it."},
	{Name: "bucket", Required: true, Help: "Bucket name, s3://name?region=&endpoint=&path-style=, or file:///directory."},
	{Name: "command", Default: "deploy", Choices: []string{"deploy", "publish", "promote", "rollback", "status"},
		Help: "deploy; publish (upload, leave the pointer alone); promote or rollback (move the pointer to a release that is there); status."},
	{Name: "version", Help: "Release to make, by default the commit hash. For promote and rollback a version, a unique prefix of 7 or more, or previous; rollback defaults to previous."},
	{Name: "environment", Default: "production", Help: "Environment whose pointer is moved."},
	{Name: "prefix", Help: "Key prefix in the bucket; by default the app's name."},
	{Name: "aws-region", Help: "Region of the bucket, where its URL does not say."},
	{Name: "endpoint-url", Help: "Endpoint of an S3-compatible store, without the bucket."},
	{Name: "force-path-style", Help: "true: address the bucket by path; by default only with endpoint-url."},
	{Name: "role-to-assume", Help: "ARN of an AWS role to assume with the job's OIDC token (permissions: id-token: write). Otherwise the usual AWS environment is read."},
	{Name: "include", Help: "Globs of what to pack, one a line; by default everything. Matched against the whole path from the top: dist is the directory there, **/*.js means every folder."},
	{Name: "exclude", Help: "Globs of what not to pack, one a line. Matched against the whole path from the top: .env is the file there, **/.env the one in every folder. .git is never packed."},
	{Name: "version-file", Help: "File to write into the package with hash, msg and date: a path ending in .js, .json, .env or .txt. The workspace is not touched."},
	{Name: "compression", Default: "zstd", Help: "zstd[:level] or gzip[:level]."},
	{Name: "signing-key", Secret: true, Help: "Private key printed by towline keygen, from a secret; several, one a line, sign together. Empty only with trust: none."},
	{Name: "trusted-keys", Help: "Further public keys whose pointers may be built upon, one a line; for key rotation."},
	{Name: "trust", Default: "signed", Choices: []string{"signed", "none"}, Help: "none: publish without signatures. Agents must say the same."},
	{Name: "message", Help: "Text of the release; by default the first line of the commit message."},
	{Name: "date", Help: "Date of the release in RFC 3339; by default the commit's."},
	{Name: "expires-in", Default: "90d", Help: "After this time a server without any release refuses this pointer. Running apps never stop."},
	{Name: "servers", Help: "Agents to ping, one a line: [name=]https://host:8422[#sha256=<pin>]."},
	{Name: "ping-token", Secret: true, Help: "Token of the ping; only agents with trust: none need one."},
	{Name: "wait", Default: "true", Help: "Wait until every server is healthy on this release."},
	{Name: "wait-timeout", Default: "10m", Help: "How long to wait for the servers."},
	{Name: "expect-servers", Help: "Names of servers whose receipts are awaited, one a line; for servers that cannot be pinged."},
	{Name: "on-superseded", Default: "skip", Choices: []string{"skip", "fail"}, Help: "Whether losing to a newer release is green (skip) or red (fail)."},
	{Name: "on-missing-credentials", Default: "auto", Choices: []string{"auto", "skip", "fail"}, Help: "auto: skip on runs of forks and Dependabot, which get no secrets, else fail."},
	{Name: "reason", Help: "Why; shown everywhere. Wanted for rollback."},
	{Name: "github-token", Default: "${{ github.token }}", Secret: true, Help: "Token for GitHub deployments (permissions: deployments: write) and for comparing commits."},
	{Name: "deployment", Default: "auto", Choices: []string{"auto", "create", "adopt", "off"}, Help: "GitHub deployment: adopt the job's own, create one, either (auto), or none."},
	{Name: "environment-url", Help: "Address of the app, shown on the GitHub deployment and given as output url."},
	{Name: "summary", Default: "true", Help: "Write a job summary."},
	{Name: "dry-run", Default: "false", Help: "Pack and show what would be done; write nothing."},
	{Name: "ca-bundle", Help: "Further certificate authorities for the bucket and the servers: PEM text, or the path of a PEM file."},
}

// Inputs returns the table of all inputs, in the order of the documentation.
func Inputs() []Input { return slices.Clone(inputs) }

func input(name string) Input {
	return inputs[slices.IndexFunc(inputs, func(in Input) bool { return in.Name == name })]
}

// Problem is one thing wrong with the inputs.
type Problem struct {
	Input   string // name of the input
	Text    string // names the value and the likely fix
	Missing bool   // the input is empty, and is one that runs of forks do not get
}

// UsageError is everything wrong with the inputs: exit code 2, and nothing was written.
type UsageError struct{ Problems []Problem }

func (e *UsageError) Error() string {
	var lines []string
	for _, p := range e.Problems {
		lines = append(lines, fmt.Sprintf("input %s: %s", p.Input, p.Text))
	}
	return strings.Join(lines, "\n")
}

// OnlyCredentials reports whether nothing is wrong but that credentials are missing, as on runs of forks.
func (e *UsageError) OnlyCredentials() bool {
	return !slices.ContainsFunc(e.Problems, func(p Problem) bool { return !p.Missing })
}

// CheckUnknown refuses names that are no inputs, with the input that was probably meant. The error is a *UsageError.
func CheckUnknown(names []string) error {
	var problems []Problem
	for _, name := range names {
		if slices.ContainsFunc(inputs, func(in Input) bool { return in.Name == name }) {
			continue
		}
		text := "there is no such input"
		if near := nearest(name); near != "" {
			text += fmt.Sprintf("; did you mean %s?", near)
		}
		problems = append(problems, Problem{Input: fmt.Sprintf("%q", name), Text: text})
	}
	if problems == nil {
		return nil
	}
	return &UsageError{problems}
}

// nearest is the input whose name takes the fewest edits to reach from name; empty when all are far.
func nearest(name string) string {
	best, least := "", 1+max(2, len(name)/3)
	for _, in := range inputs {
		if d := distance(strings.ToLower(name), in.Name); d < least {
			best, least = in.Name, d
		}
	}
	return best
}

// distance is the number of insertions, deletions and replacements of bytes between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
