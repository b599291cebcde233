package config

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/towline/towline/internal/config/schema"
)

// compiled is the schema, ready to judge.
func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema.Agent()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertVocabs()
	if err := c.AddResource("agent.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("agent.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance is the file as an editor sees it: JSON. ok is false where it is none.
func instance(data []byte) (v any, ok bool) {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, false
	}
	anchors := map[string]any{}
	var value func(node ast.Node) any
	value = func(node ast.Node) any {
		switch n := node.(type) {
		case *ast.AnchorNode:
			v := value(n.Value)
			anchors[n.Name.GetToken().Value] = v
			return v
		case *ast.AliasNode:
			return anchors[n.Value.GetToken().Value]
		case *ast.TagNode:
			return value(n.Value)
		case *ast.MappingNode:
			m := map[string]any{}
			for _, p := range n.Values {
				m[p.Key.GetToken().Value] = value(p.Value)
			}
			return m
		case *ast.MappingValueNode:
			return map[string]any{n.Key.GetToken().Value: value(n.Value)}
		case *ast.SequenceNode:
			list := []any{}
			for _, item := range n.Values {
				list = append(list, value(item))
			}
			return list
		case *ast.BoolNode:
			return n.Value
		case *ast.IntegerNode, *ast.FloatNode:
			if i, err := strconv.ParseInt(n.GetToken().Value, 0, 64); err == nil {
				return i
			}
			return 0.5
		case *ast.NullNode, nil:
			return nil
		default:
			text, _ := scalar(node)
			return text
		}
	}
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			return value(doc.Body), true
		}
	}
	return nil, false
}

// full is a file with every key that goes together with the others.
const full = `
server: web-1
labels: [canary, 7]
bucket: s3://my-deploys?region=fra1&endpoint=https://fra1.digitaloceanspaces.com
trust: {keys: ["` + key1 + `", "` + key2 + `"], threshold: 2, reverts: refuse}
poll: 5s
listen: ":8422"
tls: {cert: /etc/towline/cert.pem, key: web.key}
ping_token_file: /etc/towline/token
receipts: file:///srv/receipts
metrics: true
status_page: true
state: /srv/state/
socket: /run/t.sock
credentials: {access_key_id_file: /etc/a, secret_access_key_file: b}
apps:
  nodeapi:
    app: api
    prefix: team/api
    environment: staging
    dir: /srv/api
    unit: nodeapi.service
    health: {http: "http://127.0.0.1:3000/version", expect: "{{hash}}", within: 1m, stable: 0, passes: 3}
    keep: 5
    shared: [.env, uploads/]
    hooks: {before-activate: [./bin/migrate, --jobs, 4], after-healthy: [./bin/warm]}
    trust: {keys: ["` + key2 + `"]}
  old:
    trust: none
    restart: [supervisorctl, restart, old]
    health: {tcp: "127.0.0.1:80"}
    pointer: version.json
    artifact: "builds/{hash}.tar.gz"
  plain: {trust: {threshold: 1}, health: {exec: [./probe]}}
  bare:
notify: [{webhook: "https://hooks.example/x", on: [failed]}]
`

// judge holds the agent's opinion of a file against the schema's: whatever the agent takes, the schema must take.
func judge(t rapid.TB, s *jsonschema.Schema, data []byte) (agent, editor error) {
	t.Helper()
	_, agent = Parse("a.yaml", data, "host")
	v, ok := instance(data)
	if !ok {
		return agent, agent
	}
	editor = s.Validate(v)
	if agent == nil && editor != nil {
		t.Errorf("the agent takes what the schema refuses: %v in\n%s", editor, data)
	}
	return agent, editor
}

// places are the paths of all values of an instance, the way there being keys and indices.
func places(v any, path []any) (all [][]any) {
	if len(path) > 0 {
		all = append(all, slices.Clone(path))
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			all = append(all, places(v[k], append(path, k))...)
		}
	case []any:
		for i := range v {
			all = append(all, places(v[i], append(path, i))...)
		}
	}
	return all
}

// with returns the file with another value at a place, or without what is there.
func with(t rapid.TB, v any, path []any, value any) []byte {
	t.Helper()
	var put func(v any, path []any) any
	put = func(v any, path []any) any {
		if len(path) == 0 {
			return value
		}
		switch v := v.(type) {
		case map[string]any:
			out := maps.Clone(v)
			if len(path) == 1 && value == gone {
				delete(out, path[0].(string))
			} else {
				out[path[0].(string)] = put(v[path[0].(string)], path[1:])
			}
			return out
		case []any:
			out := slices.Clone(v)
			if i := path[0].(int); len(path) == 1 && value == gone {
				out = slices.Delete(out, i, i+1)
			} else {
				out[i] = put(v[i], path[1:])
			}
			return out
		}
		return v
	}
	data, err := json.Marshal(put(v, path)) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const gone = "\x00gone"

// odd are values of all kinds, good ones for some key among them.
var odd = []any{
	gone, nil, "", "x", "none", "auto", "off", "false", "true", "follow", "30s", "0", "1.5h", ":80", "[::1]:80", "a:b", "/x", "/x/", "/x/../y", "//", "/", "../x", "x/",
	"a..b", "Web", "web.service", "{hash}.tgz", "x{hash}/.tar.zst", "s3://abc", "S3://abc", "s3://a@bcd", "file:///x", "file://x", "ftp://x/y", "http://h", "HTTP://h", "https://",
	key1, key1 + "\n", "ed25519:abc", "releases", "12", strings.Repeat("a", 64), strings.Repeat("/a", 60), 0, 1, 2, 17, -1, 1.5, true, false,
	[]any{}, []any{""}, []any{"x", 1, true}, []any{nil}, []any{[]any{}}, map[string]any{}, map[string]any{"x": 1}, map[string]any{"keys": []any{key1}},
	map[string]any{"cert": "/c", "key": "/k"}, []any{"failed"}, []any{"a", "a/b"},
}

func TestSchemaTakesWhatTheAgentTakes(t *testing.T) {
	s := compiled(t)
	if agent, editor := judge(t, s, []byte(full)); agent != nil || editor != nil {
		t.Fatalf("got %v and %v, want that both take the full file", agent, editor)
	}
	v, _ := instance([]byte(full))
	taken, refused, both := 0, 0, 0
	for i, path := range places(v, nil) {
		for j, value := range odd {
			if (i+j)%4 > 0 {
				continue // the next test takes any of them
			}
			agent, editor := judge(t, s, with(t, v, path, value))
			switch {
			case agent == nil:
				taken++
			case editor != nil:
				both++
				fallthrough
			default:
				refused++
			}
		}
	}
	// The schema has teeth: of what the agent refuses it lets little through.
	if taken < 200 || refused < 900 || both*100 < refused*98 {
		t.Errorf("got %d files taken, %d refused, %d of them by the schema too", taken, refused, both)
	}
	t.Logf("%d files taken, %d refused, %d of them by the schema too", taken, refused, both)
}

// Several values are odd at a time, and keys come from elsewhere.
func TestSchemaTakesWhatTheAgentTakesOfAnyFile(t *testing.T) {
	s := compiled(t)
	v, _ := instance([]byte(full))
	keys := slices.Sorted(maps.Keys(rawSchema(t).everyKey()))
	rapid.Check(t, func(r *rapid.T) {
		now := v
		for range rapid.IntRange(1, 6).Draw(r, "changes") {
			all := places(now, nil)
			path := slices.Clone(all[rapid.IntRange(0, len(all)-1).Draw(r, "place")])
			if _, ok := path[len(path)-1].(string); ok && rapid.Bool().Draw(r, "other key") {
				path[len(path)-1] = rapid.SampledFrom(keys).Draw(r, "key")
			}
			data := with(t, now, path, rapid.SampledFrom(odd).Draw(r, "value"))
			judge(r, s, data)
			if next, ok := instance(data); ok {
				now = next
			}
		}
	})
}

// everyKey are all keys that the schema knows anywhere.
func (s raw) everyKey() map[string]bool {
	all := map[string]bool{"unknown": true}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if keys, ok := v["properties"].(map[string]any); ok {
				for k := range keys {
					all[k] = true
				}
			}
			for _, child := range v {
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(map[string]any(s))
	return all
}

// What the schema refuses by its own rules, one by one, the agent refuses too, and the schema does refuse it.
func TestSchemaRefuses(t *testing.T) {
	s := compiled(t)
	for _, change := range [][2]string{
		{"server: web-1", "sever: web-1"}, {"server: web-1", "server: Web"}, {"server: web-1", "server: a..b"}, {"server: web-1", "server: 5"},
		{"poll: 5s", "poll: 5"}, {"poll: 5s", "poll: soon"}, {"metrics: true", "metrics: maybe"}, {"threshold: 2", "threshold: 0"},
		{"reverts: refuse", "reverts: sometimes"}, {"listen: \":8422\"", "listen: \"8422\""}, {"receipts: file:///srv/receipts", "receipts: yes please"},
		{"{cert: /etc/towline/cert.pem, key: web.key}", "on"}, {"{cert: /etc/towline/cert.pem, key: web.key}", "{cert: /c}"},
		{"bucket: s3", "#"}, {"s3://my-deploys", "s3://key@my-deploys"}, {"keep: 5", "keep: 1"}, {"keep: 5", "keep: five"}, {"unit: nodeapi.service", "unit: nodeapi"},
		{"unit: nodeapi.service", "unit: nodeapi.service\n    restart: [x]"}, {"environment: staging", "environment: releases"}, {"dir: /srv/api", "dir: srv/api"},
		{"http: \"http://127.0.0.1:3000/version\"", "http: localhost"}, {"http: \"http://127.0.0.1:3000/version\"", "tcp: \"h:1\", http: \"http://h/\""},
		{"tcp: \"127.0.0.1:80\"", "expect: x"}, {"passes: 3", "passes: 0"}, {"stable: 0", "stable: 1"}, {"shared: [.env", "shared: [../.env"},
		{"before-activate", "before"}, {"[./bin/warm]", "[]"}, {"[./bin/warm]", "./bin/warm"}, {"builds/{hash}.tar.gz", "builds/x.tar.gz"}, {"on: [failed]", "on: [deployed]"},
		{"https://hooks.example/x", "hooks.example"}, {key1, "ed25519:abc"}, {"{access_key_id_file: /etc/a, secret", "{secret"}, {"  old:\n", "  Old:\n"}, {"  bare:\n", "  bare: []\n"},
	} {
		text := strings.Replace(full, change[0], change[1], 1)
		if text == full {
			t.Errorf("%q is not in the file", change[0])
		}
		if agent, editor := judge(t, s, []byte(text)); agent == nil || editor == nil {
			t.Errorf("%s: the agent says %v, the schema %v, want that both refuse it", change[1], agent, editor)
		}
	}
}
