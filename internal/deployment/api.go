package deployment

// The agent's socket speaks these types; both ends of it import them from here.

// Overview is the answer to GET /v1/apps and what `status --json` prints. The receipts carry no events.
type Overview struct {
	Apps []Receipt `json:"apps"`
}

// Detail is the answer to GET /v1/apps/{app}.
type Detail struct {
	Key         string    `json:"key"` // the app's name in the agent's configuration
	Dir         string    `json:"dir"`
	Unit        string    `json:"unit,omitempty"`
	Receipt     Receipt   `json:"receipt"`
	Releases    []Release `json:"releases"`    // newest first
	Deployments []Record  `json:"deployments"` // newest first, with events
	// Drift holds the release directories that are known not to be as they were unpacked.
	Drift []Verification `json:"drift,omitempty"`
}

// Command is the body of POST /v1/apps/{app}/{deploy,rollback,hold,resume,prune,verify}. With
// "Accept: application/x-ndjson" deploy and rollback answer with their event stream, else with a Result.
type Command struct {
	Version string `json:"version,omitempty"` // deploy, rollback: a version, a prefix of 7 or more, or "previous"
	Reason  string `json:"reason,omitempty"`
	Force   bool   `json:"force,omitempty"` // deploy: a quarantined release too
	Keep    int    `json:"keep,omitempty"`  // prune: instead of the configured number
	// AcceptSeq is for recover: pointers above it are followed.
	AcceptSeq uint64 `json:"accept_seq,omitempty"`
}

// Result is the answer to a Command.
type Result struct {
	Outcome Outcome  `json:"outcome,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	Record  *Record  `json:"deployment,omitempty"`
	Lines   []string `json:"lines,omitempty"` // what was done, one thing a line: removed releases
	// Releases is the answer to verify: every release directory, the live one first, then the newest first.
	Releases []Verification `json:"releases,omitempty"`
}

// Problem is the body of every answer that is an error.
type Problem struct {
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"`
	Code    int    `json:"code"` // the exit code for the program that asked
}

// Exit codes of all three programs.
const (
	ExitOK      = 0 // deployed, unchanged, skipped, published, superseded under skip
	ExitError   = 1 // failed, timed-out, superseded under fail, endpoint down
	ExitUsage   = 2 // usage, input, configuration; bucket missing or forbidden
	ExitUnwell  = 3 // rolled-back, broken, unhealthy
	ExitUnknown = 4 // unknown app or release, ambiguous prefix
	ExitHeld    = 5 // held, or another agent's lock
	ExitRefused = 6 // any verification failed
)

// ExitCode is the exit code that an outcome stands for. Superseded counts as skipped here; under on-superseded: fail the
// caller says so itself.
func (o Outcome) ExitCode() int {
	switch o {
	case Failed, TimedOut:
		return ExitError
	case RolledBack, Broken:
		return ExitUnwell
	case Held:
		return ExitHeld
	default:
		return ExitOK
	}
}

// severity orders the outcomes of several servers, worst first.
var severity = []Outcome{Broken, Failed, RolledBack, TimedOut, Held, Superseded, Deployed, Unchanged}

// Worst returns the outcome that stands for all: the worst of them. Without any it is empty.
func Worst(outcomes ...Outcome) Outcome {
	for _, o := range severity {
		for _, have := range outcomes {
			if have == o {
				return o
			}
		}
	}
	return ""
}
