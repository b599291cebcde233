package deployment

// Outcome is how a deployment, or the CI run that asked for it, ended.
type Outcome string

// The outcomes. A server reports one of the first seven; the rest belong to the CI half.
const (
	Deployed   Outcome = "deployed"    // live and proven healthy
	Unchanged  Outcome = "unchanged"   // the same artifact was live and healthy already
	RolledBack Outcome = "rolled-back" // the release failed, the previous one is live and healthy again
	Failed     Outcome = "failed"      // nothing live was touched, or the previous release was kept
	Broken     Outcome = "broken"      // the previous release failed too: a person is needed
	Superseded Outcome = "superseded"  // a newer pointer won
	Held       Outcome = "held"        // the server is on hold

	TimedOut  Outcome = "timed-out" // no terminal word from a server before the deadline
	Skipped   Outcome = "skipped"   // no credentials on a fork or Dependabot run
	Published Outcome = "published" // uploaded and promoted, nobody was awaited
	DryRun    Outcome = "dry-run"   // nothing was written
)

// Step names one undoable part of a deployment.
type Step string

// The steps, in their order.
const (
	Fetch    Step = "fetch"
	Unpack   Step = "unpack"
	Activate Step = "activate"
	Check    Step = "check"
	Confirm  Step = "confirm"
	Prune    Step = "prune"
	RollBack Step = "roll back" // the undo of activate, reported as a step of its own
	End      Step = "end"       // the step of the terminal event, which carries the outcome
)

// State is what an event says of its step.
type State string

// The states of an event.
const (
	Started   State = "started"
	Progress  State = "progress"
	Done      State = "done"
	StepFail  State = "failed"
	Heartbeat State = "heartbeat"
)

// Event is one line of a deployment's story: what the stream, the receipt and the status page show.
type Event struct {
	N          int      `json:"n"`    // from 1, rising inside a deployment; clients drop an n that they have seen
	Time       string   `json:"time"` // RFC 3339 with milliseconds, UTC
	Deployment string   `json:"deployment"`
	App        string   `json:"app"`
	Server     string   `json:"server"`
	Seq        uint64   `json:"seq"` // 0 for plain pointers
	Hash       string   `json:"hash"`
	Step       Step     `json:"step,omitempty"`
	State      State    `json:"state"`
	Message    string   `json:"message,omitempty"`
	TookMS     int64    `json:"took_ms,omitempty"` // milliseconds
	Bytes      int64    `json:"bytes,omitempty"`   // bytes pulled over the network
	Outcome    Outcome  `json:"outcome,omitempty"` // on the terminal event only
	Reason     string   `json:"reason,omitempty"`
	Log        []string `json:"log,omitempty"` // last lines of the unit's journal
}

// Terminal reports whether the event ends its deployment.
func (e Event) Terminal() bool { return e.Outcome != "" }

// ReceiptType is the type field of a Receipt.
const ReceiptType = "receipt.v1"

// Receipt is what a server leaves in the bucket about one app: what it has seen, what is live, how the last
// deployment went.
type Receipt struct {
	Type         string         `json:"type"`
	App          string         `json:"app"`
	Environment  string         `json:"environment"`
	Server       string         `json:"server"`
	AgentVersion string         `json:"agent_version"`
	Seen         string         `json:"seen"` // when the pointer was last read, RFC 3339, UTC
	Pointer      ReceiptPointer `json:"pointer"`
	Live         ReceiptLive    `json:"live"`
	Held         string         `json:"held,omitempty"`   // the reason of a hold or override, empty when there is none
	Status       string         `json:"status,omitempty"` // one line a person should read: stale, refused, not ready
	// Health is how the live release is now: "ok", or why not; empty where nobody looks. Only the socket tells, the bucket
	// would keep it too long.
	Health     string  `json:"health,omitempty"`
	Deployment *Record `json:"deployment,omitempty"`
}

// ReceiptPointer is the pointer that the server follows.
type ReceiptPointer struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
}

// ReceiptLive is the release that is live on the server.
type ReceiptLive struct {
	Seq   uint64 `json:"seq"`
	Hash  string `json:"hash"`
	Since string `json:"since,omitempty"` // RFC 3339, UTC
}

// Record is one deployment as receipts and the status command show it.
type Record struct {
	ID       string  `json:"id"`
	Seq      uint64  `json:"seq"`
	Hash     string  `json:"hash"`
	Outcome  Outcome `json:"outcome,omitempty"` // empty while it runs
	Reason   string  `json:"reason,omitempty"`
	Started  string  `json:"started"`            // RFC 3339, UTC
	Finished string  `json:"finished,omitempty"` // RFC 3339, UTC
	Origin   *Origin `json:"origin,omitempty"`   // nil for a command on the server, and where nobody is named
	Events   []Event `json:"events,omitempty"`
}

// Origin is where a deployment came from: who had its pointer written, in which run, and why.
type Origin struct {
	Kind   string `json:"kind,omitempty"` // deploy, promote, rollback
	Reason string `json:"reason,omitempty"`
	Actor  string `json:"actor,omitempty"`
	Run    string `json:"run,omitempty"` // URL
}

// UnitState is what the service manager says of an app's unit at one moment. The zero value, with Managed false,
// stands for an app without a unit.
type UnitState struct {
	Managed    bool   // there is a unit
	Active     string // ActiveState: active, activating, failed, …
	Sub        string // SubState: running, auto-restart, dead, …
	Result     string // Result: success, exit-code, start-limit-hit, …
	MainPID    int
	ExitCode   int    // ExecMainStatus: exit code or signal number of the last main process
	Restarts   int    // NRestarts since the last manual start
	Invocation string // InvocationID, 32 hex digits; a new one for every start
	Type       string // simple, exec, notify, oneshot, …
}

// Release is one release as `towline releases` lists it.
type Release struct {
	Seq     uint64  `json:"seq"`
	Hash    string  `json:"hash"`
	Msg     string  `json:"msg"`
	Date    string  `json:"date"`
	SHA256  string  `json:"sha256"`
	Live    bool    `json:"live"`
	OnDisk  bool    `json:"on_disk"`
	Outcome Outcome `json:"outcome,omitempty"`
}
