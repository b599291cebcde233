package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/cli/setup/draft"
	"github.com/towline/towline/internal/release"
)

// lookTime bounds the look: a set-up without a network goes on.
const lookTime = 15 * time.Second

// Look is what a look at the bucket showed.
type Look struct {
	Level string `json:"level"` // ok or warn
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"`
}

// LookAt reads in the bucket, as the agent will, and changes nothing there. key is that of the pointer.
func LookAt(ctx context.Context, o bucket.Options, key string) Look {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	b, err := bucket.Open(ctx, o)
	if err == nil {
		err = b.Check(ctx)
	}
	if err != nil {
		return Look{"warn", err.Error(), fix(err)}
	}
	_, _, err = b.Get(ctx, key, 64<<10)
	switch {
	case err == nil:
		return Look{Level: "ok", Text: "it answers and may be read; a release is there already"}
	case errors.Is(err, fs.ErrNotExist):
		return Look{Level: "ok", Text: "it answers and may be read; nothing is published yet"}
	case errors.Is(err, fs.ErrPermission):
		// To a key that may not list, a store gives this answer for what is absent too.
		return Look{Level: "ok", Text: "it answers and knows the key; whether the key may read shows with the first release"}
	}
	return Look{"warn", err.Error(), fix(err)}
}

// fix names what usually helps.
func fix(err error) string {
	switch {
	case errors.Is(err, bucket.ErrNoBucket):
		return "check the bucket's name and region; towline does not create buckets"
	case errors.Is(err, bucket.ErrNoCredentials):
		return "give the key with --access-key-id, or the machine a role"
	case errors.Is(err, bucket.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		return "check the endpoint's address, and that this machine reaches it"
	case errors.Is(err, fs.ErrPermission):
		return "check the key's id and secret, and what it may do in the bucket"
	}
	return ""
}

func (s *session) lookAtBucket(ctx context.Context) {
	prefix := s.Prefix
	if prefix == "" {
		prefix = s.App
	}
	if s.asking {
		s.printf("\nLooking at the bucket ...\n")
	}
	found := s.World.Check(ctx, bucket.Options{URL: s.Bucket, AccessKeyID: s.AccessKeyID, SecretAccessKey: s.Secret},
		release.PointerKey(prefix, s.Environment))
	if s.AccessKeyID == "" && draft.Remote(s.Bucket) && found.Level == "ok" && s.Getenv("AWS_ACCESS_KEY_ID")+s.Getenv("AWS_PROFILE") != "" {
		found = Look{"warn", "it answers with the key of this shell's environment, which the agent does not have", fix(bucket.ErrNoCredentials)}
	}
	s.result.Look = &found
}

// looked is the look in one line.
func (l Look) String() string {
	if l.Fix == "" {
		return fmt.Sprintf("%s: %s", l.Level, l.Text)
	}
	return fmt.Sprintf("%s: %s; %s", l.Level, l.Text, l.Fix)
}
