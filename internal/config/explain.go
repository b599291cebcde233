package config

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxColumn is where the origins stand at the furthest; behind longer lines they follow at once.
const maxColumn = 64

// Explained are settings with the origin of each value.
type Explained struct {
	Settings
	Values []Value   // in the order of Effective, secrets hidden
	Advice []Problem // what is not wrong, and yet may not be meant

	annotated string
}

// Value is one value of a configuration: text, a number, true or false, or a list of them.
type Value struct {
	Path  string // its keys joined by dots
	Value any
	Line  int // of the file; 0: it is a default
}

// Annotated is Effective with the origin of each value as a comment behind it.
func (e Explained) Annotated() string { return e.annotated }

// Explain is Load for people.
func Explain(path string) (Explained, error) {
	data, host, err := read(path)
	if err != nil {
		return Explained{}, err
	}
	return explain(path, data, host)
}

func explain(path string, data []byte, host string) (Explained, error) {
	s, r, err := parse(path, data, host)
	if err != nil {
		return Explained{}, err
	}
	file, err := parser.ParseBytes([]byte(s.Effective()), 0)
	if err != nil || len(file.Docs) != 1 {
		return Explained{}, fmt.Errorf("internal error: read what %s stands for: %w", path, err)
	}
	e := Explained{Settings: s, Advice: r.advise(s)}
	w := &origins{reader: r, of: &e, lines: map[int]string{}}
	w.walk("", file.Docs[0].Body)
	e.annotated = w.annotate(s.Effective(), filepath.Base(path))
	return e, nil
}

// origins finds out where the values of the effective configuration come from.
type origins struct {
	*reader
	of    *Explained
	lines map[int]string // paths of what stands in a line of the effective configuration
}

func (o *origins) walk(path string, node ast.Node) {
	switch n := node.(type) {
	case *ast.MappingNode:
		for _, p := range n.Values {
			o.pair(path, p)
		}
	case *ast.MappingValueNode:
		o.pair(path, n)
	}
}

func (o *origins) pair(path string, p *ast.MappingValueNode) {
	at := join(path, p.Key.GetToken().Value)
	switch n := p.Value.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		o.walk(at, n)
		return
	case *ast.SequenceNode:
		list := []any{}
		for i, item := range n.Values {
			value, plain := plainValue(item)
			if !plain {
				o.walk(fmt.Sprintf("%s[%d]", at, i), item)
				continue
			}
			list = append(list, value)
			o.lines[item.GetToken().Position.Line] = fmt.Sprintf("%s[%d]", at, i)
		}
		if len(n.Values) > 0 && len(list) == 0 {
			return // mappings, which have values of their own
		}
		if len(list) == 0 {
			o.lines[p.Key.GetToken().Position.Line] = at
		}
		o.of.Values = append(o.of.Values, Value{Path: shown(at), Value: list, Line: o.origin(at)})
		return
	}
	value, _ := plainValue(p.Value)
	o.lines[p.Key.GetToken().Position.Line] = at
	o.of.Values = append(o.of.Values, Value{Path: shown(at), Value: value, Line: o.origin(at)})
}

func plainValue(node ast.Node) (value any, ok bool) {
	switch n := node.(type) {
	case *ast.BoolNode:
		return n.Value, true
	case *ast.IntegerNode:
		if i, err := strconv.Atoi(n.GetToken().Value); err == nil {
			return i, true
		}
	}
	return scalar(node)
}

// origin is the line of the file that a value comes from, 0 for a default. An app's trust may come from the one above.
func (o *origins) origin(path string) int {
	at := path
	if o.places[at] == nil && strings.HasSuffix(at, "]") { // of a list that is a default, or inherited
		at = at[:strings.LastIndexByte(at, '[')]
	}
	if place := o.places[at]; place != nil {
		return place.Position.Line
	}
	parts := strings.SplitN(path, "/", 4)
	if len(parts) < 3 || parts[0] != "apps" || parts[2] != "trust" {
		return 0
	}
	above := strings.Join(parts[2:], "/")
	own := strings.Join(parts[:3], "/")
	if replaced := o.places[own] != nil && (o.places[own+"/keys"] != nil || !o.mapped(own)); replaced && above != "trust/reverts" {
		return 0
	}
	if place := o.places[above]; place != nil {
		return place.Position.Line
	}
	return 0
}

// mapped reports whether keys stand below a path, and not a word.
func (o *origins) mapped(path string) bool {
	for _, key := range []string{"/keys", "/threshold", "/reverts"} {
		if o.places[path+key] != nil {
			return true
		}
	}
	return false
}

// annotate writes origins behind the lines that have one.
func (o *origins) annotate(text, file string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	column := 0
	for i, line := range lines {
		if width := utf8.RuneCountInString(line); o.lines[i+1] != "" && width <= maxColumn {
			column = max(column, width)
		}
	}
	for i, line := range lines {
		path := o.lines[i+1]
		if path == "" {
			continue
		}
		origin := "default"
		if n := o.origin(path); n > 0 {
			origin = file + ":" + strconv.Itoa(n)
		}
		lines[i] += strings.Repeat(" ", max(0, column-utf8.RuneCountInString(line))) + "  # " + origin
	}
	return strings.Join(lines, "\n") + "\n"
}
