package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/towline/towline/internal/durable"
)

// ErrByHand says that a program cannot change the file so that all else in it stays as it is: a person has to.
var ErrByHand = errors.New("it is to be changed by hand")

// Draft is a configuration file that is to be changed. A change adds lines or takes lines away and leaves all others as
// they are, comments with them: it is refused where that cannot be, or where the file means something else afterwards than
// it did before, but for the change.
type Draft struct {
	path       string // links followed
	shown      string // as it was named
	host       string
	was, now   []byte
	from, drop int      // the first line that changes, from 0, and how many go
	added      []string // the lines in their place
}

// Entry is what an app's entry says; empty fields are not written.
type Entry struct {
	Environment, Dir, Unit string
	HTTP, TCP              string // of health
	Shared                 []string
}

// OpenDraft reads the file at path, whether or not it is right.
func OpenDraft(path string) (*Draft, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	data, err := readFile(real)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("host name: %w", err)
	}
	return &Draft{path: real, shown: path, host: host, was: data, now: data}, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s is over %d bytes: %w", path, maxFile, fs.ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return data, nil
}

// Has reports whether the file has an app of that key, whatever else is wrong with it.
func (d *Draft) Has(key string) bool {
	f, _ := readForm(d.shown, d.now)
	_, has := f.Apps[key]
	return has
}

// Settings are what the file says as it would be written.
func (d *Draft) Settings() (Settings, error) { return Parse(d.shown, d.now, d.host) }

// Diff are the lines that change, each with + or - before it, and one of those around them.
func (d *Draft) Diff() []string {
	if string(d.was) == string(d.now) {
		return nil
	}
	lines := split(d.was)
	var out []string
	if d.from > 0 {
		out = append(out, "  "+lines[d.from-1])
	}
	for _, line := range lines[d.from : d.from+d.drop] {
		out = append(out, "- "+line)
	}
	for _, line := range d.added {
		out = append(out, "+ "+line)
	}
	if at := d.from + d.drop; at < len(lines) {
		out = append(out, "  "+lines[at])
	}
	return out
}

// Add adds an app at the end of apps. An error that is an *Error says what would be wrong with the file then.
func (d *Draft) Add(key string, e Entry) error {
	if d.Has(key) {
		return fmt.Errorf("%s has an app %s already", d.shown, key)
	}
	b, err := findApps(d.now)
	if err != nil {
		return fmt.Errorf("add app %s to %s: %w", key, d.shown, err)
	}
	indent := b.indent
	var added []string
	if !b.there {
		if b.end > 0 && strings.TrimSpace(split(d.now)[b.end-1]) != "" {
			added = append(added, "")
		}
		added, indent = append(added, "apps:"), 2
	}
	for _, line := range e.lines(key) {
		added = append(added, strings.Repeat(" ", indent)+line)
	}
	return d.replace(key, b.end, 0, added)
}

// Remove takes the app's entry out. The comments above it stay.
func (d *Draft) Remove(key string) error {
	b, err := findApps(d.now)
	if err != nil {
		return fmt.Errorf("take app %s out of %s: %w", key, d.shown, err)
	}
	for i, app := range b.apps {
		if app.key != key {
			continue
		}
		if len(b.apps) == 1 {
			return fmt.Errorf("take app %s out of %s: it is the only one, and an agent without an app has nothing to do: %w",
				key, d.shown, ErrByHand)
		}
		end := b.end
		if i+1 < len(b.apps) {
			end = trimmed(split(d.now), app.line, b.apps[i+1].line, b.indent+1)
		}
		return d.replace(key, app.line, end-app.line, nil)
	}
	return fmt.Errorf("%s has no app %s: %w", d.shown, key, fs.ErrNotExist)
}

// replace puts lines in the place of others and sees that the file says the same as before, but for the app.
func (d *Draft) replace(key string, from, drop int, added []string) error {
	lines, eol := split(d.was), "\n"
	if strings.Contains(string(d.was), "\r\n") {
		eol = "\r\n"
	}
	text := strings.Join(append(append(append([]string(nil), lines[:from]...), added...), lines[from+drop:]...), eol) + eol
	before, berr := readForm(d.shown, d.was)
	after, aerr := readForm(d.shown, []byte(text))
	if len(berr) > 0 {
		return &Error{Problems: berr}
	}
	if _, has := after.Apps[key]; len(aerr) > 0 || has != (added != nil) {
		return fmt.Errorf("%s does not read well with app %s changed: %w", d.shown, key, ErrByHand)
	}
	delete(before.Apps, key)
	delete(after.Apps, key)
	if before.Apps == nil {
		before.Apps = map[string]*appForm{}
	}
	if !reflect.DeepEqual(before, after) {
		return fmt.Errorf("%s would say something else of other things than app %s: %w", d.shown, key, ErrByHand)
	}
	if _, err := Parse(d.shown, []byte(text), d.host); err != nil {
		return err
	}
	d.now, d.from, d.drop, d.added = []byte(text), from, drop, added
	return nil
}

// Write replaces the file by what Diff shows, in one step and durably; owner and mode stay. Whoever changed the file since it
// was read has changed it for good.
func (d *Draft) Write() (err error) {
	if string(d.was) == string(d.now) {
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write configuration %s: %w", d.shown, err)
		}
	}()
	info, err := os.Lstat(d.path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	dir := filepath.Dir(d.path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(d.path)+".tmp-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(d.now); err != nil {
		return err
	}
	if err = f.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err = f.Chmod(info.Mode().Perm()); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if have, rerr := readFile(d.path); rerr != nil || string(have) != string(d.was) {
		return errors.Join(errors.New("somebody has changed it meanwhile; run the command again"), rerr)
	}
	if err = os.Rename(f.Name(), d.path); err != nil {
		return err
	}
	d.was = d.now
	return durable.SyncDir(dir)
}

// readForm is the file form as it is written, without defaults, and what cannot be read of it.
func readForm(path string, data []byte) (form, []Problem) {
	r := &reader{path: path, lines: strings.Split(string(data), "\n")}
	var f form
	r.parse(data, &f)
	return f, r.sorted()
}

// block is where the apps stand in the file. Lines count from 0.
type block struct {
	there  bool // apps: is
	indent int  // of the keys of apps
	end    int  // the line before which another app goes
	apps   []struct {
		key  string
		line int
	}
}

// findApps finds the apps in the file's text.
func findApps(data []byte) (block, error) {
	lines := split(data)
	b := block{indent: 2}
	// The parser loses count of lines that end in two characters.
	file, err := parser.ParseBytes([]byte(strings.Join(lines, "\n")+"\n"), 0)
	if err != nil {
		return b, fmt.Errorf("it is not YAML: %w", err)
	}
	var root []*ast.MappingValueNode
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			root = values(doc.Body)
			break
		}
	}
	end := len(lines)
	var apps ast.Node
	for _, v := range root {
		line := v.Key.GetToken().Position.Line - 1
		if apps != nil {
			end = line
			break
		}
		if v.Key.GetToken().Value == "apps" {
			apps, b.there, b.end = v.Value, true, line+1
		}
	}
	first := b.end
	for i := first; i < end; i++ {
		if strings.HasPrefix(lines[i], "---") || strings.HasPrefix(lines[i], "...") {
			end = i
		}
	}
	if apps == nil {
		b.end = trimmed(lines, 0, end, 0)
		return b, nil
	}
	if apps.Type() == ast.NullType {
		return b, nil
	}
	if m, ok := apps.(*ast.MappingNode); ok && m.IsFlowStyle || apps.Type() != ast.MappingType && apps.Type() != ast.MappingValueType {
		return b, fmt.Errorf("apps is not written with one key a line: %w", ErrByHand)
	}
	for _, v := range values(apps) {
		at := v.Key.GetToken().Position
		b.indent = at.Column - 1
		b.apps = append(b.apps, struct {
			key  string
			line int
		}{v.Key.GetToken().Value, at.Line - 1})
	}
	b.end = trimmed(lines, first, end, b.indent)
	return b, nil
}

func values(node ast.Node) []*ast.MappingValueNode {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

// trimmed is end without the empty lines, and the comments further left than indent, before it: they belong to what follows.
func trimmed(lines []string, first, end, indent int) int {
	for ; end > first; end-- {
		line := strings.TrimRight(lines[end-1], " \t")
		left := len(line) - len(strings.TrimLeft(line, " \t"))
		if line != "" && (line[left] != '#' || left >= indent) {
			break
		}
	}
	return end
}

// split are the lines without their ends.
func split(data []byte) []string {
	text := strings.TrimSuffix(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// lines is the entry as it is written.
func (e Entry) lines(key string) []string {
	out := []string{scalarText(key) + ":"}
	add := func(indent int, name, value string) {
		if value != "" {
			out = append(out, strings.Repeat(" ", indent)+name+": "+scalarText(value))
		}
	}
	add(2, "environment", e.Environment)
	add(2, "dir", e.Dir)
	add(2, "unit", e.Unit)
	if e.HTTP != "" || e.TCP != "" {
		out = append(out, "  health:")
		add(4, "http", e.HTTP)
		add(4, "tcp", e.TCP)
	}
	if len(e.Shared) > 0 {
		words := make([]string, len(e.Shared))
		for i, s := range e.Shared {
			words[i] = scalarText(s)
		}
		out = append(out, "  shared: ["+strings.Join(words, ", ")+"]")
	}
	return out
}

// bare is what YAML takes for text without quotes, wherever it stands.
var bare = regexp.MustCompile(`^[A-Za-z/.][A-Za-z0-9/._@-]*(:[A-Za-z0-9/._@-]+)*$`)

// scalarText is a text as YAML reads it back.
func scalarText(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "y", "n", "null", ".inf", ".nan":
	default:
		if bare.MatchString(s) {
			return s
		}
	}
	quoted, _ := json.Marshal(s) // its escapes are YAML's too
	return string(quoted)
}
