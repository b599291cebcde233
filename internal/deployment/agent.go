package deployment

// Agent is the answer to GET /v1/agent: the daemon itself, and by which configuration it runs.
type Agent struct {
	Version string   `json:"version"`
	Server  string   `json:"server"`
	Started string   `json:"started"` // RFC 3339, like all times here
	Listen  string   `json:"listen"`  // host:port, empty without a port
	Pin     string   `json:"pin"`     // of the certificate there, empty without TLS
	Apps    []string `json:"apps"`    // keys of the configuration
	// Leaving holds the keys that are not in the configuration any more, but whose last deployment still runs.
	Leaving []string `json:"leaving"`
	Config  Config   `json:"config"`
}

// Config says by which file the agent runs, and whether it is the one that is on disk.
type Config struct {
	Path   string `json:"path"`
	Loaded string `json:"loaded"` // when the configuration was taken up
	SHA256 string `json:"sha256"` // of the file as it was then, in hex
	// Refused is when the file was read last and could not be used, empty when it could; Error and Problems say why.
	Refused  string          `json:"refused,omitempty"`
	Error    string          `json:"error,omitempty"`
	Problems []ConfigProblem `json:"problems,omitempty"`
	// Pending holds what the file says and only a restart of the agent brings about, one sentence each.
	Pending []string `json:"pending,omitempty"`
}

// ConfigProblem is one thing that is wrong in the file.
type ConfigProblem struct {
	Line    int    `json:"line"` // from 1; 0 when the problem has no place of its own
	Message string `json:"message"`
}
