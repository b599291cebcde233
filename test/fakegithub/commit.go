package fakegithub

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Commit is one commit of the fake repository.
type Commit struct {
	SHA     string
	Parents []string
	Message string
	Date    time.Time // of author and committer
}

// AddCommit adds a commit; parent is empty for the first, and must be known otherwise. date is RFC 3339.
func (s *Server) AddCommit(sha, parent, message, date string) {
	at, err := time.Parse(time.RFC3339, date)
	if err != nil {
		panic(fmt.Sprintf("fake github: commit %s: %v", sha, err))
	}
	c := Commit{SHA: sha, Message: message, Date: at}
	s.mu.Lock()
	defer s.mu.Unlock()
	if parent != "" {
		if _, ok := s.commits[parent]; !ok {
			panic(fmt.Sprintf("fake github: commit %s: no parent %s", sha, parent))
		}
		c.Parents = []string{parent}
	}
	s.commits[sha] = c
	s.order = append(s.order, sha)
}

func (s *Server) getCommit(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.commits[r.PathValue("ref")]
	if !ok {
		refuse(w, http.StatusUnprocessableEntity, "No commit found for SHA: "+r.PathValue("ref"))
		return
	}
	answer := s.commitBody(c)
	answer["stats"] = object{"additions": 0, "deletions": 0, "total": 0}
	answer["files"] = []any{}
	write(w, http.StatusOK, answer)
}

func (s *Server) compare(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	base, head, _ := strings.Cut(r.PathValue("basehead"), "...")
	reachBase, reachHead := s.ancestors(base), s.ancestors(head)
	if reachBase == nil || reachHead == nil {
		notFound(w)
		return
	}
	var ahead, behind []string
	mergeBase := ""
	for _, sha := range s.order { // parents come before children, so the last common one is a best common ancestor
		switch {
		case reachBase[sha] && reachHead[sha]:
			mergeBase = sha
		case reachHead[sha]:
			ahead = append(ahead, sha)
		case reachBase[sha]:
			behind = append(behind, sha)
		}
	}
	if mergeBase == "" {
		refuse(w, http.StatusNotFound, fmt.Sprintf("No common ancestor between %s and %s.", base, head))
		return
	}
	status := "identical"
	switch {
	case len(ahead) > 0 && len(behind) > 0:
		status = "diverged"
	case len(ahead) > 0:
		status = "ahead"
	case len(behind) > 0:
		status = "behind"
	}
	commits := []any{}
	for _, sha := range page(w, r, ahead, 250) {
		commits = append(commits, s.commitBody(s.commits[sha]))
	}
	self, web := s.api("/compare/"+base+"..."+head), s.web("/compare/"+base+"..."+head)
	write(w, http.StatusOK, object{
		"url": self, "html_url": web, "permalink_url": web, "diff_url": web + ".diff", "patch_url": web + ".patch",
		"base_commit": s.commitBody(s.commits[base]), "merge_base_commit": s.commitBody(s.commits[mergeBase]),
		"status": status, "ahead_by": len(ahead), "behind_by": len(behind), "total_commits": len(ahead),
		"commits": commits, "files": []any{},
	})
}

// ancestors are sha and all that it descends from; nil when there is no such commit.
func (s *Server) ancestors(sha string) map[string]bool {
	if _, ok := s.commits[sha]; !ok {
		return nil
	}
	found := map[string]bool{}
	queue := []string{sha}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		if !found[next] {
			found[next] = true
			queue = append(queue, s.commits[next].Parents...)
		}
	}
	return found
}

func (s *Server) commitBody(c Commit) object {
	person := object{"name": "Ada", "email": "ada@example.com", "date": c.Date.UTC().Format(time.RFC3339)}
	self := s.api("/commits/" + c.SHA)
	parents := []any{}
	for _, sha := range c.Parents {
		parents = append(parents, object{"sha": sha, "url": s.api("/commits/" + sha), "html_url": s.web("/commit/" + sha)})
	}
	return object{
		"sha": c.SHA, "node_id": "C_" + c.SHA, "url": self, "html_url": s.web("/commit/" + c.SHA), "comments_url": self + "/comments",
		"commit": object{
			"url": s.api("/git/commits/" + c.SHA), "message": c.Message, "comment_count": 0, "author": person, "committer": person,
			"tree":         object{"sha": c.SHA, "url": s.api("/git/trees/" + c.SHA)},
			"verification": object{"verified": false, "reason": "unsigned", "signature": nil, "payload": nil, "verified_at": nil},
		},
		"author": s.user(), "committer": s.user(), "parents": parents,
	}
}
