package bucket

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		in        Options
		want      string // String() of the location, or the error
		pathStyle bool
	}{
		{Options{URL: "my-deploys"}, "s3://my-deploys", false},
		{Options{URL: "my-deploys", Region: "eu-west-1"}, "s3://my-deploys?region=eu-west-1", false},
		{Options{URL: "s3://my-deploys"}, "s3://my-deploys", false},
		{Options{URL: "s3://my-deploys/"}, "s3://my-deploys", false},
		{Options{URL: "s3://my-deploys?region=fra1&endpoint=https://fra1.digitaloceanspaces.com"}, "s3://my-deploys?endpoint=https://fra1.digitaloceanspaces.com&region=fra1", true},
		{Options{URL: "s3://my-deploys?endpoint=https%3A%2F%2Fs3.example.com%2F&path-style=false"}, "s3://my-deploys?endpoint=https://s3.example.com&path-style=false", false},
		{Options{URL: "s3://abc?region=&endpoint=", Region: "r1", Endpoint: "http://127.0.0.1:9000", PathStyle: &no}, "s3://abc?endpoint=http://127.0.0.1:9000&path-style=false&region=r1", false},
		{Options{URL: "s3://abc?region=r2&endpoint=http://localhost&path-style=true", Region: "r1", Endpoint: "http://127.0.0.1:9000", PathStyle: &no}, "s3://abc?endpoint=http://localhost&path-style=true&region=r2", true},
		{Options{URL: "abc", PathStyle: &yes}, "s3://abc?path-style=true", true},
		{Options{URL: "s3://abc?endpoint=https://vpce-1.s3.eu-west-1.vpce.amazonaws.com"}, "s3://abc?endpoint=https://vpce-1.s3.eu-west-1.vpce.amazonaws.com", false},
		{Options{URL: "file:///srv/bucket"}, "file:///srv/bucket", false},
		{Options{URL: "file:///srv/my%20bucket/", Region: "eu-west-1"}, "file:///srv/my%20bucket", false},

		{Options{}, "empty: want a bucket name", false},
		{Options{URL: "no such"}, `"no such" is not a bucket name`, false},
		{Options{URL: "ab"}, `"ab" is not a bucket name`, false},
		{Options{URL: "-abc"}, `"-abc" is not a bucket name`, false},
		{Options{URL: "s3://"}, `"" is not a bucket name`, false},
		{Options{URL: "my-deploys/prefix"}, `"my-deploys/prefix" is not a bucket name`, false},
		{Options{URL: "s3://my-deploys/prefix"}, `path "/prefix": the URL names only the bucket, a key prefix is set by prefix`, false},
		{Options{URL: "s3://my-deploys?regoin=eu-west-1"}, `unknown parameter "regoin": known are region, endpoint, path-style`, false},
		{Options{URL: "s3://my-deploys?region=a&region=b"}, `parameter "region" is given twice`, false},
		{Options{URL: "s3://my-deploys?region=EU West"}, `"EU West" is not a region`, false},
		{Options{URL: "s3://my-deploys?path-style=maybe"}, `path-style "maybe": want true or false`, false},
		{Options{URL: "s3://my-deploys?endpoint=fra1.digitaloceanspaces.com"}, `endpoint "fra1.digitaloceanspaces.com": want a URL`, false},
		{Options{URL: "my-deploys", Endpoint: "ftp://x"}, `endpoint "ftp://x": want a URL`, false},
		{Options{URL: "my-deploys", Endpoint: "https://my-deploys.fra1.digitaloceanspaces.com"}, "begins with the bucket's name: want https://fra1.digitaloceanspaces.com", false},
		{Options{URL: "my-deploys", Endpoint: "https://u:secret@h"}, "endpoint: credentials do not belong in the URL", false},
		{Options{URL: "my-deploys", Endpoint: "https://h/?x=1"}, "want no query", false},
		{Options{URL: "s3://u:secret@my-deploys"}, "credentials do not belong in the URL", false},
		{Options{URL: "s3://my-deploys#x"}, "unexpected #x", false},
		{Options{URL: "s3://my-deploys?a=%zz"}, "invalid URL escape", false},
		{Options{URL: "s3://my deploys"}, "invalid character", false},
		{Options{URL: "gs://my-deploys"}, `unknown scheme "gs": want s3://name or file:///dir`, false},
		{Options{URL: "https://s3.example.com/my-deploys"}, `unknown scheme "https"`, false},
		{Options{URL: "file://srv/bucket"}, "want an absolute path after three slashes", false},
		{Options{URL: "file://"}, "want an absolute path after three slashes", false},
		{Options{URL: "file:///srv?region=x"}, `unknown parameter "region": file:// takes none`, false},
	} {
		loc, err := parse(c.in)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("parse(%+v): got error %q, want %q", c.in, err, c.want)
			}
			continue
		}
		style := loc.pathStyle != nil && *loc.pathStyle || loc.pathStyle == nil && loc.custom()
		if got := loc.String(); got != c.want || style != c.pathStyle {
			t.Errorf("parse(%+v): got %s, path style %v, want %s, %v", c.in, got, style, c.want, c.pathStyle)
		}
		again, err := parse(Options{URL: loc.String()})
		if err != nil || again.String() != loc.String() {
			t.Errorf("parse(%s): got %v, %v, want the same", loc, again, err)
		}
	}
}
