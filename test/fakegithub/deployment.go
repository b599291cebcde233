package fakegithub

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Deployment is a deployment as the fake keeps it.
type Deployment struct {
	ID          int64
	SHA         string
	Ref         string
	Task        string
	Environment string
	Description string
	Production  bool
	Transient   bool
	Payload     json.RawMessage // an object or a string
	Created     time.Time
}

// Status is one status of a deployment.
type Status struct {
	ID             int64
	State          string
	Description    string
	LogURL         string
	EnvironmentURL string
	Created        time.Time
}

// Deployments are all deployments, oldest first.
func (s *Server) Deployments() []Deployment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Deployment
	for _, d := range s.deployments {
		all = append(all, *d)
	}
	return all
}

// Statuses are the statuses of a deployment, oldest first.
func (s *Server) Statuses(id int64) []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.statuses[id])
}

// AddDeployment adds a deployment that somebody else made, as GitHub does for a job with an `environment:` line, and
// returns its id. Empty fields get what GitHub puts there.
func (s *Server) AddDeployment(d Deployment, statuses ...Status) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.add(d)
	for _, status := range statuses {
		s.addStatus(id, status)
	}
	return id
}

func (s *Server) add(d Deployment) int64 {
	s.lastID++
	d.ID, d.Created = s.lastID, s.options.Now()
	if d.Ref == "" {
		d.Ref = d.SHA
	}
	if d.Task == "" {
		d.Task = "deploy"
	}
	if len(d.Payload) == 0 {
		d.Payload = json.RawMessage(`{}`)
	}
	s.deployments = append(s.deployments, &d)
	return d.ID
}

func (s *Server) addStatus(id int64, status Status) Status {
	s.lastID++
	status.ID, status.Created = s.lastID, s.options.Now()
	s.statuses[id] = append(s.statuses[id], status)
	return status
}

func (s *Server) find(text string) *Deployment {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil
	}
	for _, d := range s.deployments {
		if d.ID == id {
			return d
		}
	}
	return nil
}

func (s *Server) listDeployments(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	query := r.URL.Query()
	wanted := func(name, value string) bool { return query.Get(name) == "" || query.Get(name) == value }
	var found []*Deployment
	for _, d := range slices.Backward(s.deployments) {
		if wanted("sha", d.SHA) && wanted("ref", d.Ref) && wanted("task", d.Task) && wanted("environment", d.Environment) {
			found = append(found, d)
		}
	}
	answer := []any{}
	for _, d := range page(w, r, found, 30) {
		answer = append(answer, s.deploymentBody(d))
	}
	write(w, http.StatusOK, answer)
}

func (s *Server) createDeployment(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Ref, Task, Environment string
		Description            string
		AutoMerge              *bool           `json:"auto_merge"`
		RequiredContexts       *[]string       `json:"required_contexts"`
		Production             *bool           `json:"production_environment"`
		Transient              bool            `json:"transient_environment"`
		Payload                json.RawMessage `json:"payload"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		refuse(w, http.StatusBadRequest, "Problems parsing JSON")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.Environment == "" {
		q.Environment = "production"
	}
	switch _, known := s.commits[q.Ref]; {
	case !known:
		refuse(w, http.StatusUnprocessableEntity, "No ref found for: "+q.Ref)
		return
	case q.AutoMerge == nil || *q.AutoMerge:
		write(w, http.StatusAccepted, object{"message": "Auto-merged main into " + q.Ref + " on deployment."})
		return
	case q.RequiredContexts == nil || len(*q.RequiredContexts) > 0:
		refuse(w, http.StatusConflict, "Conflict: Commit status checks failed for "+q.Ref)
		return
	}
	id := s.add(Deployment{
		SHA: q.Ref, Ref: q.Ref, Task: q.Task, Environment: q.Environment, Description: q.Description, Payload: q.Payload,
		Transient: q.Transient, Production: q.Production == nil && q.Environment == "production" || q.Production != nil && *q.Production,
	})
	write(w, http.StatusCreated, s.deploymentBody(s.find(strconv.FormatInt(id, 10))))
}

func (s *Server) listStatuses(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.find(r.PathValue("id"))
	if d == nil {
		notFound(w)
		return
	}
	newest := slices.Clone(s.statuses[d.ID])
	slices.Reverse(newest)
	answer := []any{}
	for _, status := range page(w, r, newest, 30) {
		answer = append(answer, s.statusBody(d, status))
	}
	write(w, http.StatusOK, answer)
}

func (s *Server) createStatus(w http.ResponseWriter, r *http.Request) {
	var q struct {
		State, Description string
		LogURL             string `json:"log_url"`
		TargetURL          string `json:"target_url"`
		EnvironmentURL     string `json:"environment_url"`
		AutoInactive       *bool  `json:"auto_inactive"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		refuse(w, http.StatusBadRequest, "Problems parsing JSON")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.find(r.PathValue("id"))
	switch {
	case d == nil:
		notFound(w)
		return
	case utf8.RuneCountInString(q.Description) > 140:
		refuse(w, http.StatusUnprocessableEntity, "Validation Failed", object{
			"resource": "DeploymentStatus", "field": "description", "code": "custom",
			"message": "description is too long (maximum is 140 characters)",
		})
		return
	}
	if q.LogURL == "" {
		q.LogURL = q.TargetURL
	}
	status := s.addStatus(d.ID, Status{State: q.State, Description: q.Description, LogURL: q.LogURL, EnvironmentURL: q.EnvironmentURL})
	if q.State == "success" && (q.AutoInactive == nil || *q.AutoInactive) {
		s.replace(d)
	}
	write(w, http.StatusCreated, s.statusBody(d, status))
}

// replace is auto_inactive: the earlier successes of the environment, unless production or transient.
func (s *Server) replace(by *Deployment) {
	for _, d := range s.deployments {
		given := s.statuses[d.ID]
		if d.ID < by.ID && d.Environment == by.Environment && !d.Production && !d.Transient &&
			len(given) > 0 && given[len(given)-1].State == "success" {
			s.addStatus(d.ID, Status{State: "inactive"})
		}
	}
}

func (s *Server) deploymentBody(d *Deployment) object {
	self := s.api("/deployments/" + strconv.FormatInt(d.ID, 10))
	at := d.Created.UTC().Format(time.RFC3339)
	return object{
		"id": d.ID, "node_id": "DE_" + strconv.FormatInt(d.ID, 10), "url": self, "sha": d.SHA, "ref": d.Ref, "task": d.Task,
		"environment": d.Environment, "original_environment": d.Environment, "description": d.Description, "creator": s.user(),
		"payload": d.Payload, "created_at": at, "updated_at": at, "statuses_url": self + "/statuses", "repository_url": s.api(""),
		"production_environment": d.Production, "transient_environment": d.Transient,
	}
}

func (s *Server) statusBody(d *Deployment, status Status) object {
	deployment := s.api("/deployments/" + strconv.FormatInt(d.ID, 10))
	id, at := strconv.FormatInt(status.ID, 10), status.Created.UTC().Format(time.RFC3339)
	body := object{
		"id": status.ID, "node_id": "DES_" + id, "url": deployment + "/statuses/" + id, "state": status.State,
		"description": status.Description, "environment": d.Environment, "creator": s.user(), "created_at": at, "updated_at": at,
		"deployment_url": deployment, "repository_url": s.api(""), "target_url": s.web(""),
	}
	if status.LogURL != "" {
		body["log_url"], body["target_url"] = status.LogURL, status.LogURL
	}
	if status.EnvironmentURL != "" {
		body["environment_url"] = status.EnvironmentURL
	}
	return body
}
