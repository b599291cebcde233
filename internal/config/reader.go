package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// reader fills the file form from YAML and remembers where everything stands. A path names a value: its keys joined
// by "/", which no key has.
type reader struct {
	path     string
	lines    []string
	places   map[string]*token.Token
	anchors  map[string]ast.Node
	problems []Problem
	unread   map[string]bool // paths whose value has a problem already
	broken   bool            // not YAML, or no mapping: nothing further can be said
}

func (r *reader) parse(data []byte, into *form) {
	r.places = map[string]*token.Token{}
	r.anchors, r.unread = map[string]ast.Node{}, map[string]bool{}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		r.broken = true
		var at yaml.Error
		if errors.As(err, &at) {
			r.report(at.GetToken(), "not YAML: %s", at.GetMessage())
		} else {
			r.report(nil, "not YAML: %v", err)
		}
		return
	}
	var root ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if root != nil {
			r.report(doc.Body.GetToken(), "a second document begins here; the file holds one")
			break
		}
		root = doc.Body
	}
	if root == nil {
		r.broken = true
		r.report(nil, "the file is empty")
		return
	}
	r.read("", root, reflect.ValueOf(into).Elem())
}

// report adds a problem at a token, which may be nil.
func (r *reader) report(at *token.Token, format string, args ...any) {
	p := Problem{Path: r.path, Message: fmt.Sprintf(format, args...)}
	if at != nil && at.Position != nil {
		p.Line, p.Column = at.Position.Line, at.Position.Column
		if p.Line >= 1 && p.Line <= len(r.lines) {
			p.Source = conceal(strings.TrimRight(r.lines[p.Line-1], "\r"))
		}
	}
	r.problems = append(r.problems, p)
}

// wrong adds a problem with the value at path, or where that is not in the file, with what is around it.
func (r *reader) wrong(path, format string, args ...any) {
	if r.unread[path] {
		return
	}
	message := fmt.Sprintf(format, args...)
	if path != "" {
		message = shown(path) + ": " + message
	}
	for at := path; ; {
		if place := r.places[at]; place != nil || at == "" {
			r.report(place, "%s", message)
			return
		}
		at = at[:max(0, strings.LastIndexByte(at, '/'))]
	}
}

// unfit adds a problem with a value of the wrong kind, which is then not looked at again.
func (r *reader) unfit(path string, node ast.Node, format string, args ...any) {
	r.unread[path] = true
	r.report(node.GetToken(), "%s: %s", shown(path), fmt.Sprintf(format, args...))
}

// sorted returns the problems in the order of lines, those without a place last.
func (r *reader) sorted() []Problem {
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(uint(a.Line-1), uint(b.Line-1)), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(r.problems) // a common value is checked for every app
}

// shown is a path as people write it.
func shown(path string) string { return strings.ReplaceAll(path, "/", ".") }

// read fills v, which is settable, from node.
func (r *reader) read(path string, node ast.Node, v reflect.Value) {
	switch n := node.(type) {
	case *ast.AnchorNode:
		r.read(path, n.Value, v)
		r.anchors[n.Name.GetToken().Value] = n.Value // only now: it cannot hold itself
		return
	case *ast.AliasNode:
		name := n.Value.GetToken().Value
		value, ok := r.anchors[name]
		if !ok {
			r.unfit(path, n, "no anchor &%s stands above", name)
			return
		}
		r.read(path, value, v)
		return
	case *ast.TagNode:
		r.read(path, n.Value, v)
		return
	case *ast.NullNode:
		if path == "apps" || strings.HasPrefix(path, "apps/") && strings.Count(path, "/") == 1 {
			return // an app whose every value is the default
		}
		r.unfit(path, n, "it has no value; give one, or leave the key out")
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if v.Type() == reflect.TypeFor[Secret]() {
		if text, ok := scalar(node); ok {
			v.Set(reflect.ValueOf(Secret{text}))
			return
		}
	}
	if v.Type() == reflect.TypeFor[duration]() {
		r.duration(path, node, v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if text, ok := scalar(node); ok && v.FieldByName("Word").IsValid() {
			if r.filled(path, node, text) {
				v.FieldByName("Word").SetString(text)
			}
			return
		}
		r.fields(path, node, v)
	case reflect.Map:
		r.mapping(path, node, v)
	case reflect.Slice:
		r.list(path, node, v)
	case reflect.String:
		text, ok := scalar(node)
		item := strings.HasSuffix(path, "]") // an argument, a label: whatever stands there is its text
		_, flag := node.(*ast.BoolNode)
		switch {
		case !ok:
			r.unfit(path, node, "want text, not %s", kind(node))
		case !item && !written(node) && !(flag && v.Type() == reflect.TypeFor[textOrBool]()):
			r.unfit(path, node, "want text, not %s; put it into quotes", text)
		case item || r.filled(path, node, text):
			v.SetString(text)
		}
	case reflect.Bool:
		b, ok := node.(*ast.BoolNode)
		if !ok {
			r.unfit(path, node, "want true or false, not %s", kind(node))
			return
		}
		v.SetBool(b.Value)
	case reflect.Int:
		text, _ := scalar(node)
		_, number := node.(*ast.IntegerNode)
		i, err := strconv.Atoi(text)
		if err != nil || !number {
			r.unfit(path, node, "want a whole number, not %s", kind(node))
			return
		}
		v.SetInt(int64(i))
	}
}

func (r *reader) duration(path string, node ast.Node, v reflect.Value) {
	text, _ := scalar(node)
	d, err := time.ParseDuration(text)
	if err != nil {
		r.unfit(path, node, "want a time with its unit, such as 30s or 5m, not %s", kind(node))
		return
	}
	v.SetInt(int64(d))
}

// pairs are the keys and values of a mapping; ok is false, and a problem reported, when node is none.
func (r *reader) pairs(path string, node ast.Node) (pairs []*ast.MappingValueNode, ok bool) {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	if path == "" {
		r.broken = true
		r.report(node.GetToken(), "the file holds no keys, but %s", kind(node))
	} else {
		r.unfit(path, node, "want keys with values below it, not %s", kind(node))
	}
	return nil, false
}

// fields fills a struct from a mapping.
func (r *reader) fields(path string, node ast.Node, v reflect.Value) {
	pairs, _ := r.pairs(path, node)
	known := map[string]int{}
	for i := range v.NumField() {
		if key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ","); key != "-" {
			known[key] = i
		}
	}
	for _, p := range pairs {
		key := p.Key.GetToken().Value
		i, ok := known[key]
		if !ok {
			where := ""
			if path != "" {
				where = " in " + shown(path)
			}
			r.report(p.Key.GetToken(), "unknown key %q%s%s", key, where, suggestion(key, known))
			continue
		}
		at := join(path, key)
		r.places[at] = p.Key.GetToken()
		r.read(at, p.Value, v.Field(i))
	}
}

// mapping fills a map whose keys are names.
func (r *reader) mapping(path string, node ast.Node, v reflect.Value) {
	pairs, ok := r.pairs(path, node)
	if !ok {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, p := range pairs {
		key := p.Key.GetToken()
		if strings.Contains(key.Value, "/") {
			r.report(key, "%s: %q cannot be a name: it has a slash", shown(path), key.Value)
			continue
		}
		at := join(path, key.Value)
		r.places[at] = key
		value := reflect.New(v.Type().Elem()).Elem()
		r.read(at, p.Value, value)
		v.SetMapIndex(reflect.ValueOf(key.Value), value)
	}
}

func (r *reader) list(path string, node ast.Node, v reflect.Value) {
	seq, ok := node.(*ast.SequenceNode)
	if !ok {
		r.unfit(path, node, "want a list, such as [a, b], not %s", kind(node))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		at := fmt.Sprintf("%s[%d]", path, i)
		r.places[at] = item.GetToken()
		r.read(at, item, v.Index(i))
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "/" + key
}

// filled reports whether the text says something; what is empty is a problem, for it may stand for anything.
func (r *reader) filled(path string, node ast.Node, text string) bool {
	if text == "" {
		r.unfit(path, node, "it is empty; give it a value, or leave the key out")
	}
	return text != ""
}

// written reports whether a value is text in YAML too, and not a number or a flag that only looks like the text.
func written(node ast.Node) bool {
	switch node.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		return true
	}
	return false
}

// scalar is the text of a plain or quoted value.
func scalar(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.StringNode:
		return n.Value, true
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return node.GetToken().Value, true
	}
	return "", false
}

// kind says what a node is, for the person who wrote it.
func kind(node ast.Node) string {
	switch n := node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys with values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.LiteralNode:
		return "a block of text"
	default:
		return strconv.Quote(n.GetToken().Value)
	}
}

// suggestion names the known key that is nearest to a misspelt one, if any is near.
func suggestion(key string, known map[string]int) string {
	best, distance := "", 3
	for _, candidate := range slices.Sorted(maps.Keys(known)) {
		if d := edits(strings.ToLower(key), candidate); d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// edits counts the insertions, deletions and replacements that lead from a to b.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
