package action

import (
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

// What goes wrong with a bucket on a real S3 server: each has its words, its exit code, and leaves nothing behind.
func TestBadBucketOnS3(t *testing.T) {
	s3 := parts.S3(t)
	good := s3.URL(s3.Bucket(t, "deploys"))
	for _, tt := range []struct {
		name, bucket, secret string
		code                 int
		want                 string
	}{
		{"works", good, s3.SecretKey, 0, "web/production/version.json now points to"},
		{"missing", s3.URL("nowhere"), s3.SecretKey, 2, "nowhere"},
		{"forbidden", good, "a-wrong-secret", 2, "hint:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("AWS_ACCESS_KEY_ID", s3.AccessKey)
			t.Setenv("AWS_SECRET_ACCESS_KEY", tt.secret)
			e := newJob(t).with("bucket", tt.bucket).run()
			if e.code != tt.code || !strings.Contains(e.log, tt.want) {
				t.Errorf("got exit %d, want %d and %q:\n%s", e.code, tt.code, tt.want, e.log)
			}
		})
	}
	t.Run("down", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", s3.AccessKey)
		t.Setenv("AWS_SECRET_ACCESS_KEY", s3.SecretKey)
		s3.Stop(t)
		e := newJob(t).with("bucket", good).run()
		if e.code != 1 || !strings.Contains(e.log, s3.Endpoint) {
			t.Errorf("got exit %d, want 1 and the endpoint:\n%s", e.code, e.log)
		}
	})
}
