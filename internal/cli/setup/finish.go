package setup

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/towline/towline/internal/cli/setup/draft"
	"github.com/towline/towline/internal/cli/setup/place"
)

// Result is what was done, for programs. Private is there once, as with keygen: nobody can read it again.
type Result struct {
	DryRun      bool     `json:"dry_run"`
	App         string   `json:"app"`
	Environment string   `json:"environment"`
	Bucket      string   `json:"bucket"`
	Server      string   `json:"server"`
	Public      string   `json:"public"`
	Private     string   `json:"private,omitempty"`
	Servers     string   `json:"servers,omitempty"`        // for the action's input of this name
	Expect      string   `json:"expect_servers,omitempty"` // or of this one
	Look        *Look    `json:"bucket_check,omitempty"`
	Files       []File   `json:"files"`
	Kind        string   `json:"kind,omitempty"`
	Workflow    string   `json:"workflow,omitempty"` // its text
	Next        []string `json:"next"`
}

// File is one of the files: create, replace or keep, and where its former bytes are.
type File struct {
	Path   string `json:"path"`
	Change string `json:"change"`
	Backup string `json:"backup,omitempty"`
}

// take fills in what is known once the files are.
func (r *Result) take(s *session, pin string, changes []place.Change) {
	r.App, r.Environment, r.Bucket, r.Server = s.App, s.Environment, s.Bucket, s.Server
	r.Files = make([]File, len(changes))
	for i, c := range changes {
		r.Files[i] = File{c.Path, c.What, c.Backup}
	}
	r.Servers, r.Expect = "", s.Server
	if s.Listen != "" {
		r.Servers, r.Expect = s.serverLine(pin), ""
	}
	if s.ci {
		r.Kind, r.Workflow = s.project.Kind, draft.Workflow(s.facts(pin))
	}
	r.Next = nil
	for _, step := range s.steps() {
		r.Next = append(r.Next, step.do)
	}
}

func (s *session) greet() {
	if s.server {
		s.printf("This sets up the server")
		if s.ci {
			s.printf(", and what the repository needs to deploy to it")
		}
	} else {
		s.printf("This makes what the repository needs: a key pair and a workflow. The server's half is done there, by a command\n" +
			"that is shown at the end")
	}
	s.printf(".\nEnter takes what stands in brackets. Nothing is written before you have seen it; Ctrl-C ends it at any time.\n")
}

// summary shows what will be, before it is.
func (s *session) summary(changes []place.Change) {
	heading := "Writing:"
	switch {
	case s.DryRun:
		heading = "What would be written:"
	case s.asking:
		heading = "What will be written:"
	}
	if len(changes) > 0 {
		s.printf("\n%s\n\n", heading)
	} else {
		s.printf("\n")
	}
	width := 0
	for _, c := range changes {
		width = max(width, len(c.Path))
	}
	for _, c := range changes {
		s.printf("  %-*s  %s\n", width, c.Path, about(c))
	}
	if len(changes) > 0 {
		s.printf("\n")
	}
	row := func(name, text string) { s.printf("  %-8s  %s\n", name, text) }
	row("app", s.App+" in "+s.Environment+s.runsAs())
	row("bucket", s.Bucket)
	if s.result.Look != nil {
		row("", s.result.Look.String())
	}
	switch {
	case !s.server:
		row("server", s.Server)
	case s.Listen == "":
		row("server", s.Server+", no open port")
	default:
		row("server", s.Server+", "+s.Listen+", reached as "+s.Address)
	}
	if s.ci {
		row("workflow", s.project.Kind+", for pushes to "+s.branch())
	}
	if s.result.Private != "" {
		row("key", "a new pair; the private half is printed once, at the end")
	} else {
		row("key", s.result.Public)
	}
	if _, _, err := s.Account(agentUser); s.server && err != nil {
		s.printf("\nThere is no user %s here, which the package makes: the files would be root's, for an agent that runs as root.\n", agentUser)
	}
}

func (s *session) runsAs() string {
	switch {
	case !s.server:
		return ""
	case s.Unit == "":
		return ", plain files"
	}
	return ", unit " + s.Unit
}

func about(c place.Change) string {
	text := "new"
	switch c.What {
	case place.Keep:
		return "stays, it is the same already"
	case place.Replace:
		text = "replaced; the old one is kept as " + c.Backup
	}
	if c.Owner != "" {
		text += fmt.Sprintf(", of %s, mode %04o", c.Owner, c.Mode)
	}
	return text
}

// texts shows the files of a dry run, but for secrets.
func (s *session) texts(changes []place.Change) {
	for _, c := range changes {
		if !c.Secret {
			s.frame(c.Path, c.Text)
		}
	}
	if s.ci && s.workflowPath() == "" {
		s.frame(".github/workflows/deploy.yml", s.result.Workflow)
	}
}

// frame prints a text as it is, to be copied.
func (s *session) frame(name, text string) {
	const rule = "----------------------------------------------------------------"
	s.printf("\n%s %s\n%s%s\n", rule[:8], name, text, rule)
}

// finish says what has come of it. The private key is printed here and nowhere else.
func (s *session) finish(changes []place.Change) {
	if len(changes) > 0 {
		s.printf("\nWritten.\n")
	}
	if s.ci && s.workflowPath() == "" {
		s.printf("\nThe workflow, for .github/workflows/deploy.yml in the repository:\n")
		s.frame(".github/workflows/deploy.yml", s.result.Workflow)
	}
	if s.result.Private != "" {
		s.printf("\nThe private key. It signs every release; it is printed this once and stored nowhere:\n\n    %s\n", s.result.Private)
	}
	s.next()
}

func (s *session) next() {
	s.printf("\nnext:\n")
	for i, step := range s.steps() {
		s.printf("  %d. %s\n", i+1, step.do)
		for _, line := range step.more {
			s.printf("       %s\n", line)
		}
	}
}

// step is something to do: in one line, and what more there is to know.
type step struct {
	do   string
	more []string
}

func (s *session) steps() []step {
	steps := []step{s.paste()}
	if !s.server {
		return append(steps, step{"on the server, as root: " + s.serverCommand(), []string{"it asks for the rest, and says what comes after"}},
			step{"commit " + s.workflowName() + " and push", nil})
	}
	add := "towline app add " + s.App
	if s.Exec != "" && !s.unitExists(s.Unit) {
		add += " --exec " + quote(s.Exec)
	}
	granted := step{do: add}
	if s.Unit != "" && s.Exec == "" && !s.unitExists(s.Unit) {
		granted.more = []string{"after /etc/systemd/system/" + s.Unit + " is written; or with --exec \"COMMAND\", which makes it"}
	}
	start := step{do: "systemctl enable --now towline-agent"}
	if s.Listen != "" {
		start.more = []string{"and let " + s.Listen + " in at the firewall"}
	}
	return append(steps, granted, start, step{do: "towline doctor"})
}

// paste is what goes into the repository by hand.
func (s *session) paste() step {
	where := `in the repository under Settings, "Secrets and variables", "Actions"`
	repo := ""
	if s.Repository != "" {
		where, repo = "at https://github.com/"+s.Repository+"/settings/secrets/actions", " --repo "+s.Repository
	}
	var more []string
	if s.result.Private != "" || s.DryRun && s.PublicKey == "" {
		more = append(more, "TOWLINE_SIGNING_KEY     the private key; or: gh secret set TOWLINE_SIGNING_KEY"+repo)
	} else if s.ci {
		more = append(more, "TOWLINE_SIGNING_KEY     the private half of "+s.result.Public)
	}
	if s.ci && draft.Remote(s.Bucket) {
		more = append(more, "AWS_ACCESS_KEY_ID       a key of CI's own for the bucket, not the server's",
			"AWS_SECRET_ACCESS_KEY   its secret; what either key has to be allowed is printed by",
			"                        "+s.policyCommand())
	}
	paste := step{"paste " + where, more}
	if len(more) == 0 {
		paste.do = "see that the workflow says"
	}
	switch {
	case s.ci && s.server && s.workflowPath() == "":
		paste.more = append(paste.more, "and the workflow above into the repository, as .github/workflows/deploy.yml")
	case !s.ci && s.Listen != "":
		paste.more = append(paste.more, "in the workflow, in the place of expect-servers:   servers: "+s.result.Servers)
	case !s.ci:
		paste.more = append(paste.more, "in the workflow   expect-servers: "+s.Server)
	}
	return paste
}

func (s *session) workflowName() string {
	if path := s.workflowPath(); path != "" {
		return strings.TrimPrefix(strings.TrimPrefix(path, s.checkout.top), "/")
	}
	return "the workflow above, as .github/workflows/deploy.yml,"
}

// serverCommand does the server's half with the same names and key.
func (s *session) serverCommand() string {
	argv := []string{"towline init --for agent", "--app", s.App, "--bucket", quote(s.Bucket), "--environment", s.Environment, "--server", s.Server}
	if s.Prefix != "" {
		argv = append(argv, "--prefix", quote(s.Prefix))
	}
	if s.project.Kind == draft.Static {
		argv = append(argv, "--unit none")
	}
	return strings.Join(append(argv, "--public-key", quote(s.result.Public)), " ")
}

func (s *session) policyCommand() string {
	argv := "towline init --print-policy --app " + s.App + " --bucket " + quote(s.Bucket) + " --server " + s.Server
	if s.Environment != "production" {
		argv += " --environment " + s.Environment
	}
	if s.Prefix != "" {
		argv += " --prefix " + quote(s.Prefix)
	}
	return argv
}

// again is the command line that gives the same answers; what was left empty, and secrets, are asked for again.
func (s *session) again() string {
	argv := []string{"towline", "init"}
	for _, q := range s.questions() {
		value := *q.value
		if value == "" && (q.flag == "listen" || q.flag == "unit") && s.server {
			value = none
		}
		if value == "" || q.secret || q.server && !s.server || q.flag == "public-key" && s.result.Private != "" {
			continue
		}
		argv = append(argv, "--"+q.flag, quote(value))
	}
	return strings.Join(argv, " ")
}

var bare = regexp.MustCompile(`^[A-Za-z0-9_./:=@,+-]+$`)

// quote makes one word of a shell.
func quote(s string) string {
	if bare.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
