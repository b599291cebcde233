package doctor

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/release"
)

// Publisher is what is looked at from CI or a laptop: the bucket, with the rights of whoever publishes.
type Publisher struct {
	Now    func() time.Time
	Bucket bucket.Upkeep
	Trust  release.Trust
	Want   release.Want // app, environment and prefix
}

// Run looks at everything.
func (p *Publisher) Run(ctx context.Context, r *Report) {
	t := topic{r, p.Want.App}
	if p.Trust.None() {
		t.warn("trust", "towline keygen", "trust: none: whoever may write in the bucket decides what servers run")
	} else {
		t.ok("trust", "%s: %s", counted(len(p.Trust.Keys()), "key"), strings.Join(p.Trust.Keys(), ", "))
	}
	if !reach(ctx, topic{r: r}, p.Now, p.Bucket, "aws sts get-caller-identity") {
		return
	}
	pointerKey := release.PointerKey(p.Want.Prefix, p.Want.Environment)
	known := look(ctx, t, p.Bucket, pointerKey, p.Trust, p.Want, p.Now(), "towline status --trusted-keys KEY --app "+p.Want.App)
	fix := policy(p.Bucket, p.Want, "") + " --for ci"
	minds := p.create(ctx, t, known, fix)
	p.move(ctx, t, pointerKey, known, minds, fix)
	p.listings(ctx, t, minds, fix)
	if known.Release.Hash == "" {
		t.unseen("versions", fix, "whether the bucket keeps versions shows with the first pointer")
		return
	}
	kept(ctx, t, p.Bucket, pointerKey)
}

// create tries to make a release over one that is there, and learns whether the store minds conditions.
func (p *Publisher) create(ctx context.Context, t topic, known release.Pointer, fix string) bucket.Leave {
	prefix := release.ReleasesPrefix(p.Want.Prefix)
	switch leave, err := p.Bucket.TryUpload(ctx, prefix+"towline-doctor"); {
	case errors.Is(err, errors.ErrUnsupported):
		t.warn("upload", fix, "the store takes no uploads in parts: releases above 16 MiB cannot be published")
	case err != nil:
		t.fail("upload", fix, "%v", err)
	case leave == bucket.Denied:
		t.fail("upload", fix, "this key may not upload to %s in parts: releases above 16 MiB fail", prefix)
	default:
		t.ok("upload", "this key may upload to %s", prefix)
	}
	keys, err := p.Bucket.List(ctx, prefix)
	if errors.Is(err, fs.ErrPermission) {
		t.fail("releases", fix, "this key may not list %s: promote and rollback do not find releases", prefix)
	} else if err != nil {
		t.fail("releases", fix, "%v", err)
	} else {
		n := 0
		for _, key := range keys {
			if _, _, ok := release.ParseManifestKey(p.Want.Prefix, key); ok {
				n++
			}
		}
		t.ok("releases", "%s in %s", counted(n, "release"), prefix)
	}
	at := slices.IndexFunc(keys, func(key string) bool { _, _, ok := release.ParseManifestKey(p.Want.Prefix, key); return ok })
	if at < 0 {
		t.unseen("create", "towline publish --app "+p.Want.App+" --path .", "whether a release may be created shows with the first one")
		return ""
	}
	leave := p.try(ctx, t, "create", keys[at], bucket.IfAbsent, fix, "create releases")
	if known.Seq > 0 && leave == bucket.Granted {
		p.try(ctx, t, "history", release.HistoryKey(p.Want.Prefix, p.Want.Environment, known.Seq), bucket.IfAbsent, fix, "write the history")
	}
	conditions(t, leave)
	return leave
}

// try writes nothing over what is there.
func (p *Publisher) try(ctx context.Context, t topic, name, key string, c bucket.Condition, fix, what string) bucket.Leave {
	data, _, err := p.Bucket.Get(ctx, key, release.MaxEnvelope)
	var leave bucket.Leave
	if err == nil {
		leave, err = p.Bucket.Try(ctx, key, data, c)
	}
	switch {
	case err != nil:
		t.unseen(name, fix, "%v", err)
	case leave == bucket.Denied:
		t.fail(name, fix, "this key may not %s: %s", what, key)
	default:
		t.ok(name, "this key may %s", what)
	}
	return leave
}

// move tries to move the pointer.
func (p *Publisher) move(ctx context.Context, t topic, key string, known release.Pointer, minds bucket.Leave, fix string) {
	switch {
	case known.Release.Hash == "":
		t.unseen("move", "towline publish --promote --app "+p.Want.App+" --path .", "whether the pointer may be moved shows with the first one")
	case minds == bucket.Granted:
		p.try(ctx, t, "move", key, bucket.IfOther, fix, "move the pointer")
	default:
		t.unseen("move", fix, "a store that does not mind conditions would move the pointer")
	}
}

// listings looks whether the receipts can be listed, and whether too much can; and that no receipt can be written.
func (p *Publisher) listings(ctx context.Context, t topic, minds bucket.Leave, fix string) {
	folder := release.ReceiptsPrefix(p.Want.Prefix, p.Want.Environment)
	receipts, err := p.Bucket.List(ctx, folder)
	switch {
	case errors.Is(err, fs.ErrPermission):
		t.warn("receipts", fix, "this key may not list %s: towline status does not know the servers", folder)
	case err != nil:
		t.unseen("receipts", fix, "%v", err)
	default:
		t.ok("receipts", "%s in %s", counted(len(receipts), "receipt"), folder)
	}
	if directory(p.Bucket.URL()) {
		return
	}
	if len(receipts) > 0 && minds == bucket.Granted {
		data, _, err := p.Bucket.Get(ctx, receipts[0], 1<<20)
		if err == nil {
			switch leave, err := p.Bucket.Try(ctx, receipts[0], data, bucket.IfOther); {
			case err != nil:
				t.unseen("rights", fix, "%v", err)
			case leave == bucket.Denied:
				t.ok("rights", "this key may not write receipts, as is right")
			default:
				t.warn("rights", fix, "this key may write %s: who has it can pass for a server", receipts[0])
			}
		}
	}
	if _, err := p.Bucket.List(ctx, "towline-doctor/"); err == nil {
		t.warn("listing", fix, "this key may list the whole bucket; two folders are enough")
	} else if errors.Is(err, fs.ErrPermission) {
		t.ok("listing", "this key may not list the whole bucket, as is right")
	}
}
