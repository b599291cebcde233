package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// maxServers bounds the receipts that status reads.
const maxServers = 200

// EnvironmentStatus is where an environment and its servers stand.
type EnvironmentStatus struct {
	Pointer  *release.Pointer     `json:"pointer"`  // nil: there is none yet
	Receipts []deployment.Receipt `json:"receipts"` // without events; untrusted
}

// status reads the pointer and the receipts of all servers, those that are expected and those that have left one. It is
// green only when each of them is live and healthy on what the pointer names: a server without a receipt, or on its way,
// counts as timed-out.
func (r *run) status(ctx context.Context) error {
	r.phase("Status")
	at, err := r.look(ctx)
	if err != nil {
		return err
	}
	st := &EnvironmentStatus{}
	r.result.Status = st
	p := at.pointer.Pointer()
	if !at.pointer.Valid() {
		r.result.Outcome, r.result.Reason = deployment.Published, "nothing has been published yet"
		r.Log.Line(Plain, fmt.Sprintf("%s on %s: %s", r.Options.App, r.Options.Environment, r.result.Reason))
		return nil
	}
	st.Pointer = &p
	r.result.Version, r.result.Message, r.result.Seq, r.result.Artifact = p.Release.Hash, p.Release.Msg, p.Seq, p.Artifact
	r.Log.Line(Plain, fmt.Sprintf("%s on %s: seq %d, release %s", r.Options.App, r.Options.Environment, p.Seq, p.Release.Hash))
	r.message(p.Release.Msg)

	names, err := r.servers(ctx)
	if err != nil {
		return err
	}
	var outcomes []deployment.Outcome
	for _, name := range names {
		s, c := r.standing(ctx, name, at)
		line := fmt.Sprintf("%s: ", s.Outcome)
		if c == nil {
			line += s.Reason
		} else {
			st.Receipts = append(st.Receipts, *c)
			line += fmt.Sprintf("live %s (seq %d) since %s", short(c.Live.Hash), c.Live.Seq, cmp.Or(c.Live.Since, "an unknown time"))
			for _, more := range []string{s.Reason, c.Status} {
				if more != "" && !strings.HasSuffix(line, more) {
					line += "; " + more
				}
			}
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read receipts: %w", context.Cause(ctx))
		}
		r.Log.Quote(ToneOf(s.Outcome), name, line)
		r.result.Servers = append(r.result.Servers, s)
		outcomes = append(outcomes, s.Outcome)
	}
	r.result.Outcome = cmp.Or(deployment.Worst(outcomes...), deployment.Published)
	r.blame()
	return nil
}

// servers are the names of the servers that are expected and of those that have left a receipt, each once.
func (r *run) servers(ctx context.Context) ([]string, error) {
	names := slices.Clone(r.Options.ExpectServers)
	prefix := release.ReceiptsPrefix(r.Options.Prefix, r.Options.Environment)
	keys, err := r.Bucket.List(ctx, prefix)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	for _, key := range keys {
		name, ok := strings.CutSuffix(strings.TrimPrefix(key, prefix), ".json")
		if ok && release.CheckServer(name) == nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if n := len(names); n > maxServers {
		r.warn(fmt.Sprintf("%d servers, the first %d of them were looked at", n, maxServers))
		names = names[:maxServers]
	}
	slices.Sort(names)
	return names, nil
}

// standing is how one server stands to the pointer, and its receipt, nil where there is none that can be read.
func (r *run) standing(ctx context.Context, name string, at position) (ServerResult, *deployment.Receipt) {
	c, err := r.receipt(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ServerResult{Name: name, Outcome: deployment.TimedOut, Reason: "no receipt"}, nil
	case errors.Is(err, fs.ErrPermission):
		// Without leave to list the whole bucket, what is absent looks forbidden.
		return ServerResult{Name: name, Outcome: deployment.TimedOut, Reason: "no receipt, or no leave to read it"}, nil
	case err != nil:
		return ServerResult{Name: name, Outcome: deployment.Failed, Unknown: true, Reason: release.CleanText(err.Error(), 300)}, nil
	}
	p := at.pointer.Pointer()
	s, known := judgeReceipt(c, p.Seq, p.Release.Hash)
	s = believe(s, p.Seq, at.top.Pointer().Seq)
	s.Name = name
	if !known {
		s.Outcome, s.Reason = deployment.TimedOut, fmt.Sprintf("on the way to seq %d", p.Seq)
	}
	if (!known || healthy(s.Outcome)) && strings.HasPrefix(c.Status, "refused") {
		s.Outcome, s.Reason = deployment.Failed, c.Status
	}
	if c.Deployment != nil {
		c.Deployment.Events = nil
	}
	return s, &c
}
