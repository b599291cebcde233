package schema

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/internal/config"
)

var update = flag.Bool("update", false, "write the reference into docs/configuration.md, and docs/agent.schema.json")

const (
	reference = "../../../docs/configuration.md"
	published = "../../../docs/agent.schema.json" // where its $id says that it is
	begin     = "<!-- reference: written by go test ./internal/config/schema -update -->\n"
	end       = "<!-- /reference -->\n"
)

// node is a part of the schema with its keys in order.
type node struct {
	Ref         string   `json:"$ref"`
	Defs        keys     `json:"$defs"`
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Type        any      `json:"type"`
	Default     any      `json:"default"`
	XDefault    string   `json:"x-default"`
	Deprecated  bool     `json:"deprecated"`
	Const       any      `json:"const"`
	Enum        []any    `json:"enum"`
	Minimum     *int     `json:"minimum"`
	AnyOf       []*node  `json:"anyOf"`
	AllOf       []*node  `json:"allOf"`
	Items       *node    `json:"items"`
	Properties  keys     `json:"properties"`
	Additional  any      `json:"additionalProperties"`
	Required    []string `json:"required"`
}

// keys are names with what they stand for, in the order of the file.
type keys []key

type key struct {
	name string
	node *node
}

// UnmarshalJSON implements json.Unmarshaler.
func (k *keys) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		one := key{name: name.(string), node: &node{}}
		if err := dec.Decode(one.node); err != nil {
			return err
		}
		*k = append(*k, one)
	}
	return nil
}

func (k keys) get(name string) *node {
	if i := slices.IndexFunc(k, func(one key) bool { return one.name == name }); i >= 0 {
		return k[i].node
	}
	return nil
}

// writer writes the reference of a schema.
type writer struct {
	root *node
	bytes.Buffer
}

// def is what a reference leads to.
func (w *writer) def(ref string) (name string, n *node) {
	name = strings.TrimPrefix(ref, "#/$defs/")
	return name, w.root.Defs.get(name)
}

// sections are the parts of the schema that have keys of their own, under the headings that they get.
var sections = [][2]string{
	{"app", "An app: `apps.NAME`"}, {"health", "Health: `apps.NAME.health`"}, {"hooks", "Hooks: `apps.NAME.hooks`"}, {"trust", "Trust: `trust`, `apps.NAME.trust`"},
	{"tls", "TLS: `tls`"}, {"credentials", "Credentials: `credentials`"}, {"notify", "Notifications: `notify`"},
}

// kind says what a value is, with a link where more is said of it.
func (w *writer) kind(n *node) string {
	if n.Ref != "" {
		name, def := w.def(n.Ref)
		switch {
		case name == "scalar":
			return "text"
		case slices.ContainsFunc(sections, func(s [2]string) bool { return s[0] == strings.TrimSuffix(name, "Trust") || s[0] == name }), name == "appTrust":
			return "[keys](#" + anchor(heading(strings.ToLower(strings.TrimPrefix(name, "app")), name)) + ")" + w.words(def)
		}
		return "[" + def.Title + "](#kinds-of-values)"
	}
	var all []string
	for _, one := range append(slices.Clone(n.AnyOf), n.AllOf...) {
		if one.Deprecated || one.Ref == "#/$defs/nameRule" || one.Ref == "" && one.Type == nil && one.Enum == nil && one.Const == nil {
			continue
		}
		if text := w.kind(one); !slices.Contains(all, text) && text != "" {
			all = append(all, text)
		}
	}
	if n.Title != "" && n.Type == "string" {
		return n.Title
	}
	for _, word := range n.Enum {
		if text, ok := word.(string); ok && text != "true" && text != "false" {
			all = append(all, "`"+text+"`")
		}
	}
	switch n.Type {
	case "boolean":
		all = append(all, "`true`, `false`")
	case "integer":
		all = append(all, "number")
	case "string":
		all = append(all, "text")
	case "array":
		all = append(all, "list of "+w.items(n.Items))
	case "object":
		all = append(all, "[apps by name]("+"#"+anchor(sections[0][1])+")")
	}
	return strings.Join(all, " or ")
}

func (w *writer) items(n *node) string {
	if n.Title == "" || n.Ref != "" {
		return w.kind(n)
	}
	if w.root.Defs.get(n.Title) != nil {
		return "[" + n.Title + "](#kinds-of-values)"
	}
	return n.Title
}

// words are those that may stand in the place of keys.
func (w *writer) words(n *node) string {
	text := ""
	for _, one := range n.AnyOf {
		if word, ok := one.Const.(string); ok {
			text += " or `" + word + "`"
		}
	}
	return text
}

func heading(name, def string) string {
	for _, s := range sections {
		if s[0] == name || s[0] == def {
			return s[1]
		}
	}
	return ""
}

// anchor is the address of a heading, as GitHub makes it.
func anchor(heading string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(heading) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
			b.WriteRune(c)
		case c == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}

func (w *writer) table(properties keys, required []string) {
	w.WriteString("\n| key | value | default | meaning |\n|---|---|---|---|\n")
	for _, k := range properties {
		def := k.node.XDefault
		switch {
		case k.node.Default != nil:
			def = shown(k.node.Default)
		case slices.Contains(required, k.name):
			def = "**needed**"
		}
		fmt.Fprintf(w, "| `%s` | %s | %s | %s |\n", k.name, w.kind(k.node), def, strings.ReplaceAll(k.node.Description, "|", "\\|"))
	}
}

func shown(v any) string {
	if list, ok := v.([]any); ok {
		var all []string
		for _, one := range list {
			all = append(all, shown(one))
		}
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("`%v`", v)
}

// render is the reference as Markdown.
func render(t *testing.T) string {
	t.Helper()
	w := &writer{root: &node{}}
	if err := json.Unmarshal([]byte(Agent()), w.root); err != nil {
		t.Fatal(err)
	}
	w.WriteString("## The whole file\n")
	w.table(w.root.Properties, w.root.Required)
	for _, s := range sections {
		n := w.root.Defs.get(s[0])
		fmt.Fprintf(w, "\n### %s\n\n%s\n", s[1], n.Description)
		properties, required := n.Properties, n.Required
		for _, one := range n.AnyOf {
			if one.Ref != "" {
				_, keys := w.def(one.Ref)
				properties, required = keys.Properties, one.Required
			}
		}
		w.table(properties, required)
	}
	w.WriteString("\n### Kinds of values\n\n| kind | what it is |\n|---|---|\n")
	for _, k := range w.root.Defs {
		if k.node.Title == "" || k.node.Description == "" || heading(k.name, k.name) != "" || k.node.Properties != nil || k.node.AnyOf != nil {
			continue
		}
		fmt.Fprintf(w, "| %s | %s |\n", k.node.Title, k.node.Description)
	}
	return w.String() + "\n"
}

// docs/configuration.md says what the schema says, and the schema lies where its $id says.
func TestReferenceIsUpToDate(t *testing.T) {
	data, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(data), begin)
	got, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the reference", reference)
	}
	want := render(t)
	if *update {
		if err := os.WriteFile(reference, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(published, []byte(Agent()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("%s is out of date (go test ./internal/config/schema -update writes it): got\n%s\nwant\n%s", reference, got, want)
	}
	if copied, err := os.ReadFile(published); err != nil || string(copied) != Agent() {
		t.Errorf("%s is out of date, %v (go test ./internal/config/schema -update writes it)", published, err)
	}
	for _, line := range strings.Split(want, "\n") {
		if strings.HasPrefix(line, "| `") && strings.Contains(line, "|  |") {
			t.Errorf("something is missing in %q", line)
		}
	}
	_, example, _ := strings.Cut(head, "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	if _, err := config.Parse("agent.yaml", []byte(example), "host"); err != nil {
		t.Errorf("the example at the top: %v", err)
	}
	for _, link := range strings.Split(want, "](#")[1:] {
		to, _, _ := strings.Cut(link, ")")
		if !slices.ContainsFunc(strings.Split(want, "\n"), func(l string) bool { return strings.HasPrefix(l, "#") && anchor(strings.TrimLeft(l, "# ")) == to }) {
			t.Errorf("a link leads to #%s, which is not there", to)
		}
	}
}
