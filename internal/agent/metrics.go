package agent

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/agent/exposition"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

// reading is what there is to tell of one app at one moment.
type reading struct {
	deploy.Figures
	*app
	open         bool // there is an engine, so that the rest means something
	receipt      deployment.Receipt
	ready        bool
	looks, fails int64 // at the pointer

	bytes int64 // of the release directories; -1 where they cannot be read
	disk  *unix.Statfs_t
}

// read takes the reading of an app.
func (c *counts) read(ctx context.Context, one *app) reading {
	r := reading{app: one, receipt: one.receipt(), ready: one.ready(ctx) == nil}
	if engine, source, err := one.now(); err == nil {
		r.open, r.Figures, r.looks, r.fails = true, engine.Figures(), source.Looks(), source.Errors()
	}
	r.bytes = c.usage.of(one.Dir)
	disk := new(unix.Statfs_t)
	if unix.Statfs(one.Dir, disk) == nil {
		r.disk = disk
	}
	return r
}

// lasted is the outcome of the last deployment that has ended.
func (r reading) lasted() deployment.Outcome {
	if d := r.receipt.Deployment; d != nil {
		return d.Outcome
	}
	return ""
}

// at is a time as receipts have it, in Unix time.
func at(text string) (seconds float64, ok bool) {
	t, err := time.Parse(time.RFC3339, text)
	return float64(t.Unix()), err == nil
}

// bit is the value of something that is so or not.
func bit(set, known bool) (float64, bool) {
	if set {
		return 1, known
	}
	return 0, known
}

// gauges are the families that have one number for each app: of is false where there is none.
var gauges = []struct {
	name, help string
	of         func(r reading) (float64, bool)
}{
	{"towline_app_ready", "1 when the app could be deployed now.", func(r reading) (float64, bool) { return bit(r.ready, true) }},
	{"towline_app_behind", "1 when the release that the pointer names is not the one that is live and healthy.",
		func(r reading) (float64, bool) { return bit(r.Behind, r.Read) }},
	{"towline_app_held", "1 when the app is on hold, or a command on this server overrides its pointer.",
		func(r reading) (float64, bool) { return bit(r.Held, r.open) }},
	{"towline_app_quarantined", "1 when the release that the pointer names failed here and is not tried again by itself.",
		func(r reading) (float64, bool) { return bit(r.Quarantined, r.open) }},
	{"towline_app_drifted", "1 when a release directory, or the link current, is not as the agent made it.",
		func(r reading) (float64, bool) { return bit(r.Drifted, r.open) }},
	{"towline_app_deploying", "1 while a deployment runs.", func(r reading) (float64, bool) {
		return bit(r.receipt.Deployment != nil && r.lasted() == "", r.open)
	}},
	{"towline_receipt_failing", "1 when the app's receipt could not be written to the bucket.", func(r reading) (float64, bool) {
		return bit(r.receipts.Status() != "", r.receipts != nil)
	}},
	{"towline_last_deployment_timestamp_seconds", "When the last deployment ended, in Unix time.", func(r reading) (float64, bool) {
		if r.lasted() == "" {
			return 0, false
		}
		return at(r.receipt.Deployment.Finished)
	}},
	{"towline_last_success_timestamp_seconds", "When the live release proved healthy, in Unix time.",
		func(r reading) (float64, bool) { return at(r.receipt.Live.Since) }},
	{"towline_last_look_timestamp_seconds", "When the pointer was read last, in Unix time.",
		func(r reading) (float64, bool) { return at(r.receipt.Seen) }},
	{"towline_pointer_seq", "The sequence number of the pointer that is followed.",
		func(r reading) (float64, bool) { return float64(r.receipt.Pointer.Seq), r.open }},
	{"towline_pointer_refused", "1 when the bucket shows a pointer or an artifact that cannot be trusted, and that is not followed.",
		func(r reading) (float64, bool) { return bit(r.Refused, r.open) }},
	{"towline_pointer_expires_timestamp_seconds", "When the pointer in the bucket becomes stale, in Unix time.",
		func(r reading) (float64, bool) { return float64(r.Expires.Unix()), r.Read && !r.Expires.IsZero() }},
	{"towline_releases", "Release directories on the disk.", func(r reading) (float64, bool) { return float64(r.Releases), r.open }},
	{"towline_releases_bytes", "Disk that the release directories take.", func(r reading) (float64, bool) { return float64(r.bytes), r.bytes >= 0 }},
	{"towline_disk_free_bytes", "Free disk where the app's directory is.", func(r reading) (float64, bool) {
		if r.disk == nil {
			return 0, false
		}
		return float64(r.disk.Bavail) * float64(r.disk.Bsize), true
	}},
	{"towline_disk_size_bytes", "Size of the disk where the app's directory is.", func(r reading) (float64, bool) {
		if r.disk == nil {
			return 0, false
		}
		return float64(r.disk.Blocks) * float64(r.disk.Bsize), true
	}},
	{"towline_disk_free_inodes", "Free inodes where the app's directory is.", func(r reading) (float64, bool) {
		if r.disk == nil || r.disk.Files == 0 { // some filesystems make them as they go
			return 0, false
		}
		return float64(r.disk.Ffree), true
	}},
}

// outcomes are those that a deployment on a server can have.
var outcomes = []deployment.Outcome{
	deployment.Deployed, deployment.Unchanged, deployment.RolledBack, deployment.Failed, deployment.Broken, deployment.Superseded, deployment.Held,
}

// metrics answers in the text format of Prometheus.
func (a *Agent) metrics(w http.ResponseWriter, r *http.Request) {
	var text exposition.Text
	a.expose(r.Context(), &text)
	w.Header().Set("Content-Type", exposition.ContentType)
	_, _ = w.Write(text.Bytes())
}

// expose writes all series. Labels have few values: the names of the configuration, fixed words, and one release for each
// app. What other servers have is told apart by the scraper's own label.
func (a *Agent) expose(ctx context.Context, text *exposition.Text) {
	apps := a.apps
	all := ask(apps, func(one *app) reading { return a.counts.read(ctx, one) })
	text.Family("towline_build_info", exposition.KindGauge, "The version of the agent.").Sample(1, "version", release.Version)
	// Beside the process's own start time, which a collector of text files may have for itself.
	text.Family("towline_start_time_seconds", exposition.KindGauge, "When the agent was started, in Unix time.").Sample(float64(a.started.Unix()))

	f := text.Family("towline_release_info", exposition.KindGauge, "The release that is live.")
	for _, r := range all {
		if live := r.receipt.Live; live.Hash != "" {
			f.Sample(1, "app", r.Key, "environment", r.Environment, "release", live.Hash)
		}
	}
	f = text.Family("towline_last_deployment_info", exposition.KindGauge, "How the last deployment ended; none while one runs.")
	for _, r := range all {
		if outcome := r.lasted(); outcome != "" {
			f.Sample(1, "app", r.Key, "outcome", string(outcome))
		}
	}
	for _, g := range gauges {
		f := text.Family(g.name, exposition.KindGauge, g.help)
		for _, r := range all {
			if value, ok := g.of(r); ok {
				f.Sample(value, "app", r.Key)
			}
		}
	}
	f = text.Family("towline_looks_total", exposition.KindCounter, "Looks at the pointer that came to an end.")
	for _, r := range all {
		f.Sample(float64(r.looks), "app", r.Key)
	}
	f = text.Family("towline_poll_errors_total", exposition.KindCounter, "Looks at the pointer that failed.")
	for _, r := range all {
		f.Sample(float64(r.fails), "app", r.Key)
	}
	a.counts.expose(text, all)
	sent, failed, dropped := a.notices.Load().Counts()
	f = text.Family("towline_notifications_total", exposition.KindCounter, "Notifications to webhooks, by what became of them.")
	f.Sample(float64(sent), "result", "sent")
	f.Sample(float64(failed), "result", "failed")
	f.Sample(float64(dropped), "result", "dropped")
	text.Process(a.started)
}
