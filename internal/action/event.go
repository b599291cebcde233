package action

import (
	"encoding/json"
	"os"
)

// event is what the runner's event file says, as far as we ask.
type event struct {
	HeadCommit struct {
		ID        string `json:"id"`
		Message   string `json:"message"`
		Timestamp string `json:"timestamp"`
	} `json:"head_commit"`
	PullRequest struct {
		Head struct {
			Repo struct {
				FullName string `json:"full_name"`
				Fork     bool   `json:"fork"`
			} `json:"repo"`
		} `json:"head"`
	} `json:"pull_request"`
	Sender struct {
		Login string `json:"login"`
	} `json:"sender"`

	repository, actor string
}

// readEvent reads GITHUB_EVENT_PATH. Without a file, or with one that is no JSON, nothing is known.
func readEvent(getenv func(string) string) event {
	var e event
	if data, err := os.ReadFile(getenv("GITHUB_EVENT_PATH")); err == nil {
		if json.Unmarshal(data, &e) != nil {
			e = event{}
		}
	}
	e.repository, e.actor = getenv("GITHUB_REPOSITORY"), getenv("GITHUB_ACTOR")
	return e
}

// untrusted reports whether this is a run that GitHub gives no secrets: of a fork's pull request, or of Dependabot.
func (e event) untrusted() bool {
	const bot = "dependabot[bot]"
	head := e.PullRequest.Head.Repo
	return head.Fork || head.FullName != "" && head.FullName != e.repository || e.Sender.Login == bot || e.actor == bot
}
