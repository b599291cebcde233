package outbox

import (
	"encoding/json"
	"strings"
	"unicode/utf16"

	"github.com/towline/towline/internal/release"
)

const (
	maxSlack   = 3000 // UTF-16 units; from 4,000 on Slack advises against it
	maxDiscord = 2000 // UTF-16 units; Discord refuses more
	maxLines   = 40
	maxLine    = 500 // runes
)

// message is the body of a notification. Slack reads text, Discord content; each passes over the other's. What an app or a
// commit says stays text there: it mentions nobody, formats nothing and brings no previews.
type message struct {
	Text        string `json:"text"`
	Mrkdwn      bool   `json:"mrkdwn"`
	UnfurlLinks bool   `json:"unfurl_links"`
	UnfurlMedia bool   `json:"unfurl_media"`

	Content         string   `json:"content"`
	AllowedMentions mentions `json:"allowed_mentions"`
	Flags           int      `json:"flags"`
}

// mentions are the kinds of mentions that Discord may make of a text.
type mentions struct {
	Parse []string `json:"parse"`
}

const suppressEmbeds = 1 << 2 // one of Discord's flags: no previews

// encodeNotice is the body that tells a text.
func encodeNotice(text string) []byte {
	lines := strings.Split(text, "\n")
	if len(lines) > maxLines {
		lines = append(lines[:maxLines], "…")
	}
	for i, line := range lines {
		lines[i] = release.CleanLine(line, maxLine)
	}
	text = strings.Join(lines, "\n")
	m := message{
		Text: escape(text, maxSlack, slackSign), Content: escape(text, maxDiscord, discordSign),
		AllowedMentions: mentions{Parse: []string{}}, Flags: suppressEmbeds,
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		panic("internal error: encode notification: " + err.Error()) // strings, numbers and booleans always can be
	}
	return []byte(b.String())
}

// slackSign is how Slack is told a character: three of them begin what is more than text.
func slackSign(r rune) string {
	switch r {
	case '&':
		return "&amp;"
	case '<':
		return "&lt;"
	case '>':
		return "&gt;"
	}
	return string(r)
}

// discordSign is how Discord is told a character that its Markdown may make something of.
func discordSign(r rune) string {
	if strings.ContainsRune("\\`*_~|>#-+[]()<@:", r) {
		return `\` + string(r)
	}
	return string(r)
}

// escape writes every character of a text with sign, and stops before more than n UTF-16 units.
func escape(text string, n int, sign func(rune) string) string {
	var b strings.Builder
	for _, r := range text {
		s := sign(r)
		units := len(utf16.Encode([]rune(s)))
		if n -= units; n < 1 { // one is kept for the mark
			b.WriteString("…")
			break
		}
		b.WriteString(s)
	}
	return b.String()
}
