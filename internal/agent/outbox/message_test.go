package outbox

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/towline/towline/internal/config"
)

// The body, byte for byte: what Slack's and Discord's incoming hooks read, in one.
func TestMessage(t *testing.T) {
	const want = `{"text":"shop on web-1: rolled-back e02371ab6db3\n503: &lt;!channel&gt; *database* &amp; @everyone","mrkdwn":false,"unfurl_links":false,"unfurl_media":false,` +
		`"content":"shop on web\\-1\\: rolled\\-back e02371ab6db3\n503\\: \\<!channel\\> \\*database\\* & \\@everyone","allowed_mentions":{"parse":[]},"flags":4}` + "\n"
	if got := string(encodeNotice("shop on web-1: rolled-back e02371ab6db3\n503: <!channel> *database* & @everyone")); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// What others wrote mentions nobody, formats nothing, and never makes the message longer than it may be.
func TestMessagesOfOthers(t *testing.T) {
	for _, text := range []string{
		"<!channel> <!here> <@U024BE7LH> <https://evil.example|click>", "@everyone @here <@&1> <@1> <#1> <:a:1> <t:0:R>", "[click](https://evil.example) **b** ||s|| `c` ```d``` # e\n- f\n> g",
		"\x1b[31m\x00\u202e\r\b", "", "\xff\xfe", "a\\", strings.Repeat("*", 5000), strings.Repeat("&", 5000), strings.Repeat("🚢", 5000), strings.Repeat("a\n", 5000), strings.Repeat("\\", 1999), strings.Repeat("x", 1999) + "<",
	} {
		var m message
		body := encodeNotice(text)
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		if units := len(utf16.Encode([]rune(m.Content))); units > 2000 {
			t.Errorf("%.40q: got %d units for Discord", text, units)
		}
		if units := len(utf16.Encode([]rune(m.Text))); units > 4000 {
			t.Errorf("%.40q: got %d units for Slack", text, units)
		}
		if rest := strings.NewReplacer("&amp;", "", "&lt;", "", "&gt;", "").Replace(m.Text); strings.ContainsAny(rest, "&<>") {
			t.Errorf("%.40q: Slack may make something of %.80q", text, m.Text)
		}
		bare := m.Content
		for i := 0; i+1 < len(bare); i++ { // take away what has a backslash before it
			if bare[i] == '\\' {
				bare = bare[:i] + bare[i+2:]
				i--
			}
		}
		if strings.ContainsAny(bare, "\\`*_~|>#[]()<@:") {
			t.Errorf("%.40q: Discord may make something of %.80q", text, m.Content)
		}
		if strings.ContainsAny(m.Content+m.Text, "\x1b\x00\u202e\r\b") {
			t.Errorf("%.40q: a control character is in %.80q", text, m.Content)
		}
		if !strings.Contains(string(body), `"allowed_mentions":{"parse":[]}`) || m.Mrkdwn || m.Flags != 4 {
			t.Errorf("%.40q: got %.200s", text, body)
		}
	}
}

// A receiver that is asked too often says when to come again, and is believed, within reason.
func TestRetryAfter(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, "0.25": 250 * time.Millisecond, "3600": notifyMost, "-1": 0, "NaN": 0, "Wed, 21 Oct 2026 07:28:00 GMT": 0, "1e300": notifyMost,
	} {
		if got := later(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
	calls := 0
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls++; calls == 1 {
			w.Header().Set("Retry-After", "0.1")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer hook.Close()
	settings, err := config.Parse("a.yaml", []byte("bucket: abc\ntrust: none\napps: {web: }\nnotify: [{webhook: \""+hook.URL+"\"}]\n"), "h")
	if err != nil {
		t.Fatal(err)
	}
	n := NewNotices(settings.Notify, "web-1", slog.New(slog.DiscardHandler))
	n.send(t.Context(), n.hooks[0], notice{"failed", "x"})
	if calls != 2 {
		t.Errorf("got %d calls, want a second one", calls)
	}
}
