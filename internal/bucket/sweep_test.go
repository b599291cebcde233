package bucket

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/towline/towline/test/parts"
)

// What uploads have left that were killed is aborted by the next one in parts, a day later; those of the same day are somebody's
// who is still at it, and those of other folders are not ours.
func TestAbandonedUploadsAreAborted(t *testing.T) {
	g := parts.S3(t)
	g.Bucket(t, "app-bucket")
	began := map[string]time.Duration{} // how much earlier than they did, by key
	var listing = regexp.MustCompile(`(?s)<Upload>.*?</Upload>`)
	var initiated = regexp.MustCompile(`<Initiated>([^<]*)</Initiated>`)
	s := gateway(t, g, proxy(t, g, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if !r.URL.Query().Has("uploads") || r.Method != http.MethodGet {
			pass.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		pass.ServeHTTP(answer, r)
		_, _ = w.Write(listing.ReplaceAllFunc(answer.Body.Bytes(), func(upload []byte) []byte {
			for key, by := range began {
				if at, err := time.Parse(time.RFC3339, string(initiated.FindSubmatch(upload)[1])); err == nil && bytes.Contains(upload, []byte("<Key>"+key+"<")) {
					return initiated.ReplaceAll(upload, []byte("<Initiated>"+at.Add(-by).Format(time.RFC3339)+"</Initiated>"))
				}
			}
			return upload
		}))
	}))
	for key, by := range map[string]time.Duration{"web/releases/old": 25 * time.Hour, "web/releases/young": 23 * time.Hour, "shop/releases/old": 25 * time.Hour} {
		u, err := s.client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &s.loc.name, Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.part(t.Context(), key, u.UploadId, 1, strings.NewReader("part"), 4); err != nil {
			t.Fatal(err)
		}
		began[key] = by
	}
	data := make([]byte, singleMax+1)
	if err := s.Upload(t.Context(), "web/releases/new", bytes.NewReader(data), int64(len(data)), "", nil); err != nil {
		t.Fatal(err)
	}
	list, err := s.client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &s.loc.name})
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, u := range list.Uploads {
		left = append(left, aws.ToString(u.Key))
	}
	if got, want := strings.Join(left, " "), "shop/releases/old web/releases/young"; got != want {
		t.Errorf("uploads left: got %q, want %q", got, want)
	}
}
