package fakegithub

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

type object = map[string]any

func write(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		panic(err) // only our own values come here
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

func refuse(w http.ResponseWriter, status int, message string, details ...any) {
	body := object{"message": message, "documentation_url": "https://docs.github.com/rest", "status": strconv.Itoa(status)}
	if len(details) > 0 {
		body["errors"] = details
	}
	write(w, status, body)
}

func notFound(w http.ResponseWriter) { refuse(w, http.StatusNotFound, "Not Found") }

// page cuts a list to the page that the query asks for, and says in Link that there is more.
func page[T any](w http.ResponseWriter, r *http.Request, all []T, size int) []T {
	query := r.URL.Query()
	if n, err := strconv.Atoi(query.Get("per_page")); err == nil && n > 0 {
		size = min(n, 100)
	}
	number, err := strconv.Atoi(query.Get("page"))
	if err != nil || number < 1 {
		number = 1
	}
	from := min((number-1)*size, len(all))
	to := min(from+size, len(all))
	if to < len(all) {
		query.Set("page", strconv.Itoa(number+1))
		w.Header().Set("Link", fmt.Sprintf(`<http://%s%s?%s>; rel="next"`, r.Host, r.URL.Path, query.Encode()))
	}
	return all[from:to]
}

func (s *Server) api(path string) string { return s.URL + "/repos/" + s.options.Repository + path }

func (s *Server) web(path string) string { return "https://github.com/" + s.options.Repository + path }

func (s *Server) user() object {
	self, web := s.URL+"/users/ada", "https://github.com/ada"
	return object{
		"login": "ada", "id": 1, "node_id": "U_1", "avatar_url": web + ".png", "gravatar_id": "", "url": self, "html_url": web,
		"followers_url": self + "/followers", "following_url": self + "/following{/other_user}", "gists_url": self + "/gists{/gist_id}",
		"starred_url": self + "/starred{/owner}{/repo}", "subscriptions_url": self + "/subscriptions",
		"organizations_url": self + "/orgs", "repos_url": self + "/repos", "events_url": self + "/events{/privacy}",
		"received_events_url": self + "/received_events", "type": "User", "site_admin": false,
	}
}
