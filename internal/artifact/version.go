package artifact

import (
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode"

	"github.com/towline/towline/internal/release"
)

// ParseCompression reads "zstd" or "gzip", with a level after a colon or without. Level 0 stands for the default.
// gzip has 1 to 9, default 6. zstd has 1 to 22 on the scale of the zstd program, of which four steps differ here: 1–2
// fastest, 3–5 the default, 6–9 better, 10–22 best. Errors match ErrSource.
func ParseCompression(s string) (format string, level int, err error) {
	name, text, hasLevel := strings.Cut(s, ":")
	most := 0
	switch name {
	case "zstd":
		format, most = release.FormatZstd, 22
	case "gzip":
		format, most = release.FormatGzip, 9
	default:
		return "", 0, sourceError{fmt.Errorf("compression %q: want zstd[:level] or gzip[:level]", s)}
	}
	if hasLevel {
		if level, err = strconv.Atoi(text); err != nil || level < 1 || level > most {
			return "", 0, sourceError{fmt.Errorf("compression %q: the level of %s is 1 to %d", s, name, most)}
		}
	}
	return format, level, nil
}

// VersionFile is the file at path, inside the tree, that tells the app which release it is. Its ending picks the form:
//
//	.js    module.exports = {"hash":"…","msg":"…","date":"…"};
//	.json  {"hash":"…","msg":"…","date":"…"}
//	.env   TOWLINE_HASH='…', TOWLINE_MSG='…', TOWLINE_DATE='…', a line each, quoted for a shell
//	.txt   hash, msg and date, a line each
//
// In .env and .txt control characters become spaces. Errors match ErrSource: another ending, or a path outside the tree.
func VersionFile(p string, r release.Release) (File, error) {
	if err := checkPath(p); err != nil {
		return File{}, sourceError{fmt.Errorf("version file %q: %w", p, err)}
	}
	// The JSON encoder escapes the two line separators that JSON allows in a string and older JavaScript does not.
	object, err := json.Marshal(struct {
		Hash string `json:"hash"`
		Msg  string `json:"msg"`
		Date string `json:"date"`
	}{r.Hash, r.Msg, r.Date})
	if err != nil {
		return File{}, fmt.Errorf("version file %q: %w", p, err)
	}
	var text string
	switch path.Ext(p) {
	case ".js":
		text = fmt.Sprintf("module.exports = %s;\n", object)
	case ".json":
		text = string(object) + "\n"
	case ".env":
		text = fmt.Sprintf("TOWLINE_HASH=%s\nTOWLINE_MSG=%s\nTOWLINE_DATE=%s\n", quote(r.Hash), quote(r.Msg), quote(r.Date))
	case ".txt":
		text = line(r.Hash) + "\n" + line(r.Msg) + "\n" + line(r.Date) + "\n"
	default:
		return File{}, sourceError{fmt.Errorf("version file %q: want a name that ends in .js, .json, .env or .txt", p)}
	}
	return File{Path: p, Data: []byte(text)}, nil
}

// quote makes one shell word of s.
func quote(s string) string { return "'" + strings.ReplaceAll(line(s), "'", `'\''`) + "'" }

// line makes one line of s.
func line(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
