package release

import (
	"fmt"
	"strings"
	"time"
)

// maxReason bounds Pointer.Reason, in runes.
const maxReason = 500

// maxSize bounds the sizes of an artifact, in bytes, so that nobody's sums of them overflow; maxPath is the longest path
// that an entry may have.
const (
	maxSize = 1 << 50
	maxPath = 1 << 10
)

// maxWaves bounds Rollout.Waves.
const maxWaves = 64

func (p Pointer) check() error {
	if p.Type != PointerType {
		return fmt.Errorf("type %q: want %q", p.Type, PointerType)
	}
	if err := CheckEnvironment(p.Environment); err != nil {
		return err
	}
	if p.Seq == 0 {
		return fmt.Errorf("seq 0: the first one is 1")
	}
	if p.Seq == 1 && p.Prev != "" {
		return fmt.Errorf("prev %q: want none at seq 1", p.Prev)
	}
	if p.Seq > 1 {
		if err := checkSHA256("prev", p.Prev); err != nil {
			return err
		}
	}
	switch p.Kind {
	case KindDeploy, KindPromote, KindRollback:
	default:
		return fmt.Errorf("kind %q: want deploy, promote or rollback", p.Kind)
	}
	if err := checkText("reason", p.Reason, maxReason); err != nil {
		return err
	}
	if err := p.Rollout.check(); err != nil {
		return err
	}
	if _, err := parseVersion(p.MinAgent); err != nil {
		return fmt.Errorf("min_agent: %w", err)
	}
	if err := checkTime("expires", p.Expires); err != nil {
		return err
	}
	return checkCommon(p.App, p.Release, p.Artifact, p.Run, p.Created)
}

// check accepts an absent rollout and one with waves; what they mean is for the agents that know them.
func (r *Rollout) check() error {
	if r == nil {
		return nil
	}
	if len(r.Waves) == 0 || len(r.Waves) > maxWaves || r.Open < 0 || r.Open > len(r.Waves) {
		return fmt.Errorf("rollout: %d of %d waves open: want 1 to %d waves, and no more open than there are", r.Open, len(r.Waves), maxWaves)
	}
	for _, w := range r.Waves {
		if err := checkText("rollout wave", w, 64); err != nil {
			return err
		}
	}
	return nil
}

func (m Manifest) check() error {
	if m.Type != ManifestType {
		return fmt.Errorf("type %q: want %q", m.Type, ManifestType)
	}
	return checkCommon(m.App, m.Release, m.Artifact, m.Run, m.Created)
}

func checkCommon(app string, r Release, a Artifact, run *Run, created string) error {
	if err := CheckApp(app); err != nil {
		return err
	}
	if err := CheckVersion(r.Hash); err != nil {
		return err
	}
	if err := checkText("msg", r.Msg, MaxMessage); err != nil {
		return err
	}
	if _, err := time.Parse(time.RFC3339, r.Date); err != nil {
		return fmt.Errorf("date %q: want RFC 3339, such as 2026-11-23T13:06:43Z", r.Date)
	}
	if err := a.check(r.Hash); err != nil {
		return err
	}
	if run != nil {
		if *run == (Run{}) {
			return fmt.Errorf("run: want it left out when it says nothing")
		}
		for _, s := range []string{run.URL, run.Actor, run.Repository, run.Ref} {
			if err := checkText("run", s, 1024); err != nil {
				return err
			}
		}
	}
	return checkTime("created", created)
}

func (a Artifact) check(version string) error {
	if err := checkSHA256("artifact sha256", a.SHA256); err != nil {
		return err
	}
	if a.Size > maxSize || a.UnpackedSize > maxSize || a.Entries > maxSize/maxPath {
		return fmt.Errorf("artifact: size %d, unpacked size %d, entries %d: more than any server holds", a.Size, a.UnpackedSize, a.Entries)
	}
	if a.Size <= 0 || a.UnpackedSize < 0 || a.Entries < 0 {
		return fmt.Errorf("artifact: size %d, unpacked size %d, entries %d: want none below zero and a size", a.Size, a.UnpackedSize, a.Entries)
	}
	switch a.Format {
	case FormatZstd, FormatGzip:
	default:
		return fmt.Errorf("artifact format %q: want %s or %s", a.Format, FormatZstd, FormatGzip)
	}
	prefix, ok := strings.CutSuffix(a.Key, ArtifactKey("", version, a.SHA256, a.Format))
	if !ok {
		return fmt.Errorf("artifact key %q: want it named by version and digest", a.Key)
	}
	if err := CheckPrefix(prefix); err != nil {
		return fmt.Errorf("artifact key %q: %w", a.Key, err)
	}
	if x := a.Index; x != nil {
		if a.Format != FormatZstd {
			return fmt.Errorf("artifact index: only %s has one", FormatZstd)
		}
		if x.Offset < 0 || x.Size <= 0 || x.Offset > a.Size || x.Size > a.Size-x.Offset {
			return fmt.Errorf("artifact index: %d bytes at %d are outside of %d bytes", x.Size, x.Offset, a.Size)
		}
		if err := checkSHA256("artifact index sha256", x.SHA256); err != nil {
			return err
		}
	}
	return nil
}

func checkTime(what, s string) error {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || !strings.HasSuffix(s, "Z") {
		return fmt.Errorf("%s %q: want RFC 3339 in UTC, such as 2026-11-23T13:06:43Z", what, s)
	}
	_ = t
	return nil
}

// parseVersion reads major.minor.patch.
func parseVersion(s string) ([3]int, error) {
	var v [3]int
	if n, err := fmt.Sscanf(s, "%d.%d.%d", &v[0], &v[1], &v[2]); n != 3 || err != nil || fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) != s {
		return v, fmt.Errorf("version %q: want major.minor.patch", s)
	}
	return v, nil
}
