package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/config/schema"
)

// raw is a part of the schema as it is written.
type raw map[string]any

// look goes through $ref, anyOf and allOf to everything that a place of the schema says of itself.
func (s raw) look(root raw, visit func(raw)) {
	visit(s)
	if ref, ok := s["$ref"].(string); ok {
		def := root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")]
		raw(def.(map[string]any)).look(root, visit)
	}
	for _, key := range []string{"anyOf", "allOf"} {
		branches, _ := s[key].([]any)
		for _, b := range branches {
			raw(b.(map[string]any)).look(root, visit)
		}
	}
}

func (s raw) first(root raw, key string) (v any, ok bool) {
	s.look(root, func(part raw) {
		if have, there := part[key]; there && !ok {
			v, ok = have, true
		}
	})
	return v, ok
}

// properties are the keys that a place may have.
func (s raw) properties(root raw) map[string]raw {
	all := map[string]raw{}
	s.look(root, func(part raw) {
		keys, _ := part["properties"].(map[string]any)
		for k, v := range keys {
			all[k] = v.(map[string]any)
		}
	})
	return all
}

func rawSchema(t testing.TB) raw {
	t.Helper()
	var root raw
	if err := json.Unmarshal([]byte(schema.Agent()), &root); err != nil {
		t.Fatal(err)
	}
	return root
}

// The file form and the schema have the same keys, of the same kinds, and the schema says something of each.
func TestSchemaHasEveryKey(t *testing.T) {
	root := rawSchema(t)
	var walk func(path string, of reflect.Type, s raw)
	walk = func(path string, of reflect.Type, s raw) {
		if of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		var kinds []string
		s.look(root, func(part raw) {
			switch k := part["type"].(type) {
			case string:
				kinds = append(kinds, k)
			case []any:
				for _, one := range k {
					kinds = append(kinds, one.(string))
				}
			}
			words, _ := part["enum"].([]any)
			if word, ok := part["const"]; ok {
				words = append(words, word)
			}
			for _, word := range words {
				kinds = append(kinds, map[reflect.Kind]string{reflect.String: "string", reflect.Bool: "boolean", reflect.Float64: "integer"}[reflect.TypeOf(word).Kind()])
			}
		})
		want := map[reflect.Kind][]string{
			reflect.String: {"string"}, reflect.Bool: {"boolean"}, reflect.Int: {"integer"}, reflect.Slice: {"array"}, reflect.Map: {"object"},
		}[of.Kind()]
		switch {
		case of == reflect.TypeFor[duration](), of == reflect.TypeFor[Secret]():
			want = []string{"string"}
		case of == reflect.TypeFor[textOrBool]():
			want = []string{"string", "boolean"}
		case of.Kind() == reflect.Struct:
			want = []string{"object"}
			if _, word := of.FieldByName("Word"); word {
				want = append(want, "string")
			}
		}
		for _, k := range want {
			if !slices.Contains(kinds, k) {
				t.Errorf("%s: the schema takes %v, the agent %v", path, kinds, want)
			}
		}
		if text, _ := s.first(root, "description"); path != "" && (text == nil || text == "") {
			t.Errorf("%s: the schema does not describe it", path)
		}
		switch {
		case want[0] != "object" && of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Struct:
			items, _ := s.first(root, "items")
			walk(path+"[]", of.Elem(), items.(map[string]any))
		case of.Kind() == reflect.Map:
			items, _ := s.first(root, "additionalProperties")
			walk(path+".NAME", of.Elem(), items.(map[string]any))
		case want[0] == "object":
			closed := false
			s.look(root, func(part raw) { closed = closed || part["additionalProperties"] == false })
			if !closed {
				t.Errorf("%s: the schema takes unknown keys", path)
			}
			keys := s.properties(root)
			for i := range of.NumField() {
				key, _, _ := strings.Cut(of.Field(i).Tag.Get("yaml"), ",")
				if key == "-" {
					continue
				}
				if keys[key] == nil {
					t.Errorf("%s: the schema has no key %q", path, key)
					continue
				}
				walk(strings.TrimPrefix(path+"."+key, "."), of.Field(i).Type, keys[key])
				delete(keys, key)
			}
			for key := range keys {
				t.Errorf("%s: the agent knows no key %q", path, key)
			}
		}
	}
	walk("", reflect.TypeFor[form](), root)
}

// Every default that the schema names is the one that the agent takes, and it names one wherever there is one.
func TestSchemaHasEveryDefault(t *testing.T) {
	root := rawSchema(t)
	file := "bucket: deploys\nlisten: \":8422\"\ntrust: {keys: [\"" + key1 + "\"]}\napps: {web: {unit: web.service}, old: {trust: none}}\nnotify: [{webhook: \"https://h/\"}]\n"
	s, err := Parse("a.yaml", []byte(file), "host")
	if err != nil {
		t.Fatal(err)
	}
	var effective map[string]any
	if err := yaml.Unmarshal([]byte(s.Effective()), &effective); err != nil {
		t.Fatal(err)
	}
	given, _ := instance([]byte(file))
	seen := 0
	var walk func(path string, have, wrote any, s raw)
	walk = func(path string, have, wrote any, s raw) {
		switch v := have.(type) {
		case map[string]any:
			was, _ := wrote.(map[string]any)
			keys := s.properties(root)
			for key, value := range v {
				child := keys[key]
				if child == nil {
					child = s["additionalProperties"].(map[string]any)
				}
				if _, there := was[key]; !there {
					want, fixed := child["default"]
					_, words := child["x-default"]
					inner, deeper := value.(map[string]any)
					switch {
					case fixed && fmt.Sprint(want) != fmt.Sprint(value):
						t.Errorf("%s.%s: the schema's default is %v, the agent's %v", path, key, want, value)
					case !fixed && !words && !deeper:
						t.Errorf("%s.%s: the agent's default is %v, the schema names none", path, key, value)
					case deeper:
						walk(path+"."+key, inner, nil, child)
					}
					seen++
					continue
				}
				walk(path+"."+key, value, was[key], child)
			}
		case []any:
			was, _ := wrote.([]any)
			items, _ := s.first(root, "items")
			for i, value := range v {
				if i < len(was) {
					walk(fmt.Sprintf("%s[%d]", path, i), value, was[i], items.(map[string]any))
				}
			}
		}
	}
	walk("", effective, given, root)
	if seen < 20 {
		t.Errorf("got %d defaults, want the twenty and more that there are", seen)
	}
}

// The names of changes are the ones of the schema.
func TestSchemaNamesTheChanges(t *testing.T) {
	on := rawSchema(t)["$defs"].(map[string]any)["notify"].(map[string]any)["properties"].(map[string]any)["on"].(map[string]any)
	want := []any{}
	for _, c := range changes {
		want = append(want, c)
	}
	if got := on["items"].(map[string]any)["enum"]; !cmp.Equal(got, any(want)) {
		t.Errorf("got %v, want %v", got, want)
	}
}
