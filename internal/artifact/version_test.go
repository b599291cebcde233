package artifact

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

var odd = release.Release{Hash: "e02371a", Msg: "it's \"odd\" $(x) `y` \\ \u2028 </script>\n\x00 \xff\u00fc", Date: "2026-11-23T13:06:43Z"}

func TestVersionFile(t *testing.T) {
	plain := release.Release{Hash: "abc", Msg: "it's", Date: "today"}
	for path, want := range map[string]string{
		"version.js":   "module.exports = {\"hash\":\"abc\",\"msg\":\"it's\",\"date\":\"today\"};\n",
		"a/v.json":     "{\"hash\":\"abc\",\"msg\":\"it's\",\"date\":\"today\"}\n",
		".env":         "TOWLINE_HASH='abc'\nTOWLINE_MSG='it'\\''s'\nTOWLINE_DATE='today'\n",
		"VERSION.txt":  "abc\nit's\ntoday\n",
		"version.yaml": "", "version": "", "../v.js": "", "/v.js": "", "a//v.js": "", "./v.js": "", "": "",
	} {
		f, err := VersionFile(path, plain)
		if want == "" {
			if !errors.Is(err, ErrSource) {
				t.Errorf("%q: err = %v, want ErrSource", path, err)
			}
			continue
		}
		if err != nil || f.Path != path || string(f.Data) != want {
			t.Errorf("%q: got %q, %v, want %q", path, f.Data, err, want)
		}
	}
}

func TestVersionFileOddMessage(t *testing.T) {
	js, err := VersionFile("v.js", odd)
	must(t, err)
	if strings.ContainsAny(string(js.Data), "\u2028\x00<") {
		t.Errorf("version.js has raw characters that JavaScript or HTML would trip over: %q", js.Data)
	}
	var back release.Release
	must(t, json.Unmarshal([]byte(strings.TrimSuffix(strings.TrimPrefix(string(js.Data), "module.exports = "), ";\n")), &back))
	if want := strings.ToValidUTF8(odd.Msg, "\uFFFD"); back.Msg != want {
		t.Errorf("msg = %q, want %q", back.Msg, want)
	}
	txt, err := VersionFile("v.txt", odd)
	must(t, err)
	if got := strings.Count(string(txt.Data), "\n"); got != 3 {
		t.Errorf("version.txt has %d lines, want 3: %q", got, txt.Data)
	}
	env, err := VersionFile("v.env", odd)
	must(t, err)
	sh, err := exec.LookPath("sh")
	if err != nil {
		parts.Skip(t, "sh")
	}
	out, err := exec.Command(sh, "-c", string(env.Data)+`printf %s "$TOWLINE_MSG"`).Output()
	must(t, err)
	if want := line(odd.Msg); string(out) != want {
		t.Errorf("a shell reads %q, want %q", out, want)
	}
}

func TestParseCompression(t *testing.T) {
	for s, want := range map[string]struct {
		format string
		level  int
	}{"zstd": {release.FormatZstd, 0}, "zstd:1": {release.FormatZstd, 1}, "zstd:22": {release.FormatZstd, 22},
		"gzip": {release.FormatGzip, 0}, "gzip:9": {release.FormatGzip, 9}} {
		format, level, err := ParseCompression(s)
		if err != nil || format != want.format || level != want.level {
			t.Errorf("%q: got %q, %d, %v, want %+v", s, format, level, err, want)
		}
	}
	for _, s := range []string{"", "xz", "zstd:", "zstd:0", "zstd:23", "zstd:fast", "gzip:0", "gzip:10", "ZSTD", "zstd:3:4"} {
		if _, _, err := ParseCompression(s); !errors.Is(err, ErrSource) {
			t.Errorf("%q: err = %v, want ErrSource", s, err)
		}
	}
}
