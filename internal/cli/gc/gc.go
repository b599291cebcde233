// Package gc removes releases from a bucket that nothing refers to any more.
//
// Parties: publishers write releases and move pointers while we look; servers run what pointers name and say so in receipts.
// Neither waits for us.
//
// Invariants. Only what lies in <prefix>/releases/ under the name of a release is ever removed; pointers, histories and
// receipts are read and never written. A release stays when a pointer of any environment names it, or one of the last Keep
// entries of its history, or a receipt, or when it is younger than OlderThan. What cannot be read or understood ends the run
// before anything is removed.
//
// A publisher may promote a release while it is being removed. So its release object goes first, by which promote and
// rollback find it; then we wait for publishers who have read it already, and read all references anew. What is named now
// gets its release object back and keeps its artifact. A publisher who packed the same bytes again writes the release
// object again, which says the same.
package gc

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// Options say what is removed from where.
type Options struct {
	Bucket    bucket.Upkeep
	Prefix    string
	Keep      int           // entries of each environment's history whose releases stay
	OlderThan time.Duration // younger releases stay
	Uploads   time.Duration // younger uploads may be under way
	Settle    time.Duration // for publishers who have just read a release object
	Now       func() time.Time
}

// Release is one release in the bucket.
type Release struct {
	Version  string   `json:"version"`
	SHA12    string   `json:"sha12"`
	Keys     []string `json:"keys"`
	Size     int64    `json:"size"`     // bytes of all its objects
	Modified string   `json:"modified"` // of the newest of them, RFC 3339
	Why      string   `json:"why,omitempty"`
}

// Upload is one that was begun and never ended.
type Upload struct {
	Key   string `json:"key"`
	Begun string `json:"begun"`

	upload bucket.Upload
}

// Plan is what would be done, and afterwards what was done.
type Plan struct {
	Prefix       string    `json:"prefix"`
	Environments []string  `json:"environments"`
	DryRun       bool      `json:"dry_run"`
	Remove       []Release `json:"remove"` // oldest first
	Keep         []Release `json:"keep"`   // newest first, each with why
	Abort        []Upload  `json:"abort"`
	Bytes        int64     `json:"bytes"` // of what is removed
	// Notes are what a person should know beside.
	Notes []string `json:"notes"`

	o Options
}

// objectName splits the name of an object of a release.
var objectName = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]{0,63})-([0-9a-f]{12})\.(tar\.zst|tar\.gz|json)$`)

// Look makes the plan.
func Look(ctx context.Context, o Options) (*Plan, error) {
	objects, err := o.Bucket.Objects(ctx, o.Prefix+"/")
	if err != nil {
		return nil, err
	}
	named, environments, err := o.references(ctx, objects)
	if err != nil {
		return nil, err
	}
	slices.Sort(environments)
	p := &Plan{Prefix: o.Prefix, Environments: environments, Remove: []Release{}, Keep: []Release{}, Abort: []Upload{}, Notes: []string{}, o: o}
	if len(environments) == 0 {
		p.Notes = append(p.Notes, "no environment has a pointer: only age protects releases")
	}
	now := o.Now()
	for _, r := range collect(o.Prefix, objects) {
		modified, _ := time.Parse(time.RFC3339, r.Modified)
		age := now.Sub(modified)
		switch r.Why = named.of(r); {
		case r.Why != "":
		case age < o.OlderThan:
			r.Why = fmt.Sprintf("it is %d days old", int(age.Hours()/24))
		default:
			p.Remove, p.Bytes = append(p.Remove, r), p.Bytes+r.Size
			continue
		}
		p.Keep = append(p.Keep, r)
	}
	slices.SortFunc(p.Remove, func(a, b Release) int { return strings.Compare(a.Modified, b.Modified) })
	slices.SortFunc(p.Keep, func(a, b Release) int { return strings.Compare(b.Modified, a.Modified) })
	return p, p.uploads(ctx, now)
}

// uploads finds what failed publishers have left.
func (p *Plan) uploads(ctx context.Context, now time.Time) error {
	found, err := p.o.Bucket.Unfinished(ctx, release.ReleasesPrefix(p.Prefix))
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) {
		p.Notes = append(p.Notes, "unfinished uploads were not looked for: "+err.Error())
		return nil
	}
	for _, u := range found {
		if now.Sub(u.Begun) >= p.o.Uploads {
			p.Abort = append(p.Abort, Upload{u.Key, u.Begun.UTC().Format(time.RFC3339), u})
		}
	}
	return err
}

// collect puts the objects of each release together. What has no such name is nobody's.
func collect(prefix string, objects []bucket.Info) (list []Release) {
	at := map[string]int{}
	for _, o := range objects {
		name, ok := strings.CutPrefix(o.Key, release.ReleasesPrefix(prefix))
		parts := objectName.FindStringSubmatch(name)
		if !ok || parts == nil || release.CheckVersion(parts[1]) != nil {
			continue
		}
		id := parts[1] + "-" + parts[2]
		if _, ok := at[id]; !ok {
			at[id] = len(list)
			list = append(list, Release{Version: parts[1], SHA12: parts[2]})
		}
		r := &list[at[id]]
		r.Keys, r.Size = append(r.Keys, o.Key), r.Size+o.Size
		r.Modified = max(r.Modified, o.Modified.UTC().Format(time.RFC3339))
	}
	return list
}

// named are the releases that something refers to, with what does.
type named struct {
	exact   map[string]string // version-sha12
	version map[string]string
}

func (n named) of(r Release) string {
	return cmp.Or(n.exact[r.Version+"-"+r.SHA12], n.version[r.Version])
}

// note remembers the first reference to a release; without a digest all of that version are meant.
func (n named) note(version, sha12, why string) {
	into, key := n.exact, version+"-"+sha12
	if sha12 == "" {
		into, key = n.version, version
	}
	if version != "" && into[key] == "" {
		into[key] = why
	}
}

// references reads every pointer, the last entries of every history and every receipt.
func (o Options) references(ctx context.Context, objects []bucket.Info) (named, []string, error) {
	found := named{map[string]string{}, map[string]string{}}
	pointers, receipts, histories := map[string]string{}, []string{}, map[string][]string{}
	environments := map[string]bool{}
	for _, object := range objects {
		environment, rest, _ := strings.Cut(strings.TrimPrefix(object.Key, o.Prefix+"/"), "/")
		if release.CheckEnvironment(environment) != nil {
			continue
		}
		server, isReceipt := strings.CutPrefix(rest, "receipts/")
		server, isJSON := strings.CutSuffix(server, ".json")
		_, isHistory := release.ParseHistoryKey(o.Prefix, environment, object.Key)
		switch {
		case rest == "version.json":
			pointers[object.Key] = "the pointer of " + environment
		case isHistory:
			histories[environment] = append(histories[environment], object.Key) // keys rise with seq
		case isReceipt && isJSON && release.CheckServer(server) == nil:
			receipts = append(receipts, object.Key)
		default:
			continue
		}
		environments[environment] = true
	}
	for environment, keys := range histories {
		for _, key := range keys[max(0, len(keys)-o.Keep):] {
			seq, _ := release.ParseHistoryKey(o.Prefix, environment, key)
			pointers[key] = "history of " + environment + ", #" + strconv.FormatUint(seq, 10)
		}
	}
	keys := append(slices.Sorted(maps.Keys(pointers)), receipts...)
	texts, err := o.read(ctx, keys)
	if err != nil {
		return found, nil, err
	}
	for i, key := range slices.Backward(keys) { // the newest reference is the one that is told
		if why, ok := pointers[key]; ok {
			version, sha12, err := pointed(texts[i])
			if err != nil {
				return found, nil, fmt.Errorf("%s: %w", key, err)
			}
			found.note(version, sha12, why)
			continue
		}
		var r deployment.Receipt
		if err := json.Unmarshal(texts[i], &r); err != nil {
			return found, nil, fmt.Errorf("%s: it is no receipt: %w", key, err)
		}
		found.note(r.Live.Hash, "", "live on "+r.Server+" in "+r.Environment)
		found.note(r.Pointer.Hash, "", "followed by "+r.Server+" in "+r.Environment)
		if r.Deployment != nil {
			found.note(r.Deployment.Hash, "", "deployed last on "+r.Server+" in "+r.Environment)
		}
	}
	return found, slices.AppendSeq([]string{}, maps.Keys(environments)), nil
}

// readers is how many objects are read at once.
const readers = 16

// read reads all keys. One that is gone meanwhile, as nothing of a bucket's references should be, is an error too.
func (o Options) read(ctx context.Context, keys []string) ([][]byte, error) {
	texts, errs := make([][]byte, len(keys)), make([]error, len(keys))
	free := make(chan struct{}, readers)
	var wg sync.WaitGroup
	for i, key := range keys {
		free <- struct{}{}
		wg.Go(func() {
			texts[i], _, errs[i] = o.Bucket.Get(ctx, key, 1<<20)
			<-free
		})
	}
	wg.Wait()
	return texts, errors.Join(errs...)
}

// pointed says which release a pointer names. It is not verified: one that nobody signed keeps a release, and removes none.
func pointed(text []byte) (version, sha12 string, err error) {
	var file struct {
		Hash     string
		Envelope *struct{ Payload string }
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return "", "", fmt.Errorf("it is no pointer: %w", err)
	}
	if file.Envelope == nil {
		if file.Hash == "" {
			return "", "", errors.New("it is no pointer: it names no release")
		}
		return file.Hash, "", nil
	}
	var p release.Pointer
	payload, err := base64.StdEncoding.DecodeString(file.Envelope.Payload)
	if err == nil {
		err = json.Unmarshal(payload, &p)
	}
	if err != nil {
		return "", "", fmt.Errorf("it is no pointer: %w", err)
	}
	if p.Release.Hash == "" || len(p.Artifact.SHA256) != 64 {
		return "", "", errors.New("it is no pointer: it names no release")
	}
	return p.Release.Hash, p.Artifact.SHA256[:12], nil
}
