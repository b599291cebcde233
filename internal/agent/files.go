package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/towline/towline/internal/agent/port"
	"github.com/towline/towline/internal/agent/secret"
	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/ping"
)

// secrets is where this process finds secrets.
func secrets(s config.Settings) secret.Store {
	return secret.Store{Credentials: os.Getenv("CREDENTIALS_DIRECTORY"), Owner: secretOwner(s.State, agentName)}
}

// secretOwner is whom, beside root, secrets may belong to. What root looks at may belong to the user that the agent runs as
// otherwise: whom the state belongs to, or, where that is root's too, who has the package's name. So an agent that is made
// root, and one that is not root any more, finds its files as they are.
func secretOwner(state, name string) int {
	if os.Geteuid() != 0 {
		return os.Geteuid()
	}
	if info, err := os.Stat(state); err == nil {
		if uid := int(info.Sys().(*syscall.Stat_t).Uid); uid != 0 {
			return uid
		}
	}
	if u, err := user.Lookup(name); err == nil {
		if uid, err := strconv.Atoi(u.Uid); err == nil {
			return uid
		}
	}
	return 0
}

// foreignState is an error if root is about to write into a state directory of the user with that name: the agent of that
// user could not read what root leaves there. Where systemd starts the agent as root, it has given it the directory.
func foreignState(dir, name string) error {
	info, err := os.Stat(dir)
	if os.Geteuid() != 0 || err != nil {
		return nil // what cannot be looked at cannot be used either
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(info.Sys().(*syscall.Stat_t).Uid), 10))
	if err != nil || u.Username != name || u.Uid == "0" {
		return nil
	}
	return &configError{fmt.Errorf("state directory %s belongs to user %s, whose agent could not read what root writes there; "+
		"run it as that user: runuser -u %s -- towline-agent", dir, name, name)}
}

// secretError says which key of the settings names a secret that cannot be had.
func secretError(key string, err error) error {
	err = fmt.Errorf("%s: %w", key, err)
	if errors.As(err, new(*fs.PathError)) {
		return err
	}
	return &configError{err}
}

// stores are the buckets of a configuration, and what they were opened with.
type stores struct {
	from, to           place
	releases, receipts bucket.Bucket
}

// place is all that a bucket is opened with.
type place struct{ url, id, secret string }

// openStores opens the bucket that releases come from, and the one that receipts go to, unless before has them open. It asks
// nobody: an error is one of the settings.
func openStores(s config.Settings, files secret.Store, before stores, log *slog.Logger) (now stores, err error) {
	now.from.url, now.to.url = s.Bucket, s.Receipts.Bucket
	if c := s.Credentials; c != (config.Credentials{}) {
		var idErr, secretErr error
		now.from.id, idErr = files.Line(c.AccessKeyID)
		now.from.secret, secretErr = files.Line(c.SecretAccessKey)
		if err := errors.Join(idErr, secretErr); err != nil {
			return stores{}, secretError("credentials", err)
		}
		now.to.id, now.to.secret = now.from.id, now.from.secret
	}
	open := func(p, was place, have bucket.Bucket) (bucket.Bucket, error) {
		if p == was {
			return have, nil
		}
		return bucket.Open(context.Background(), bucket.Options{URL: p.url, AccessKeyID: p.id, SecretAccessKey: p.secret, Log: log})
	}
	if now.releases, err = open(now.from, before.from, before.releases); err != nil {
		return stores{}, &configError{err}
	}
	if now.to.url == "" {
		now.receipts = now.releases
		return now, nil
	}
	if now.receipts, err = open(now.to, before.to, before.receipts); err != nil {
		return stores{}, &configError{fmt.Errorf("receipts: %w", err)}
	}
	return now, nil
}

// certificate is what the port is served with, nil for plain HTTP.
func certificate(s config.Settings, log *slog.Logger) (*port.Certificate, error) {
	cert, key := s.TLS.Cert, s.TLS.Key
	switch s.TLS.Mode {
	case config.TLSOff:
		return nil, nil
	case config.TLSAuto:
		var err error
		if cert, key, err = ping.Keep(filepath.Join(s.State, "tls")); err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
	}
	c, err := port.Open(secrets(s), cert, key, log)
	if err != nil {
		return nil, secretError("tls", err)
	}
	return c, nil
}

// exposed says why the configuration, which holds a secret, is none; empty when nobody but its owner and its group may
// read it.
func exposed(s config.Settings) string {
	if len(s.Notify) == 0 {
		return ""
	}
	info, err := os.Stat(s.Path)
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		return ""
	}
	return fmt.Sprintf("everyone on this machine may read %s, and its webhooks are secrets; run chmod o= %s", s.Path, s.Path)
}
