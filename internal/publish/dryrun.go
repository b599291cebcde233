package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// maxFiles is how many files a dry run names.
const maxFiles = 500

// Plan is what a dry run found that would be done.
type Plan struct {
	Files  []File    `json:"-"`            // the first of what would be packed; untrusted names
	Upload int64     `json:"upload_bytes"` // bytes of the artifact that the bucket lacks
	From   PlanPoint `json:"from"`         // where the pointer is; seq 0 and no hash where there is none
	To     PlanPoint `json:"to"`           // where it would be; seq 0 and no hash where it would be left alone
}

// PlanPoint is a pointer in a Plan.
type PlanPoint struct {
	Seq      uint64 `json:"seq"`
	Hash     string `json:"hash"`
	Artifact string `json:"artifact"` // key
}

func (p PlanPoint) line() string {
	return fmt.Sprintf("seq %d  hash %s  artifact %s", p.Seq, cmp.Or(p.Hash, "none"), cmp.Or(p.Artifact, "none"))
}

// dryRun says what would be done. Nothing is written.
func (r *run) dryRun(ctx context.Context, at position, p release.Pointer) error {
	r.result.Outcome, r.result.Reason = deployment.DryRun, "nothing was written"
	plan := &Plan{}
	r.result.Plan = plan
	if p.Kind == release.KindDeploy {
		if err := r.wouldUpload(ctx, plan, p); err != nil {
			return err
		}
	}
	if r.Options.Command == Publish {
		return nil
	}
	r.phase("Pointer")
	old := at.pointer.Pointer()
	plan.From = PlanPoint{old.Seq, old.Release.Hash, old.Artifact.Key}
	plan.To = PlanPoint{at.top.Pointer().Seq + 1, p.Release.Hash, p.Artifact.Key}
	r.result.Previous = old.Release.Hash
	r.Log.Line(Plain, release.PointerKey(r.Options.Prefix, r.Options.Environment))
	r.Log.Line(Bad, "- "+plan.From.line())
	r.Log.Line(Good, "+ "+plan.To.line())
	return nil
}

// wouldUpload lists the files and says what of them the bucket lacks.
func (r *run) wouldUpload(ctx context.Context, plan *Plan, p release.Pointer) error {
	r.phase("Files")
	files, err := r.Files(ctx, r.Release)
	if err != nil {
		return err
	}
	for i, f := range files {
		if i == maxFiles {
			r.Log.Line(Faint, fmt.Sprintf("and %d more", len(files)-i))
			break
		}
		r.Log.Quote(Plain, fmt.Sprintf("%10s", Bytes(f.Size)), release.CleanLine(f.Path, 1024))
	}
	plan.Files = files[:min(len(files), maxFiles)]
	size, err := r.Size(ctx, p.Artifact.Key)
	switch {
	case err == nil && size != p.Artifact.Size:
		return otherSize(p.Artifact, size)
	case err == nil:
		r.Log.Line(Plain, "would upload nothing: the bucket has the same bytes")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		plan.Upload = p.Artifact.Size
		r.Log.Line(Plain, fmt.Sprintf("would upload %s as %s", Bytes(p.Artifact.Size), p.Artifact.Key))
	default:
		return err
	}
	return nil
}
