package config

import (
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/towline/towline/internal/release"
)

// The file form: one field per key, in the order in which they are shown. A pointer is nil where the file is silent
// and silence differs from the zero value. A struct with a field Word may be written as that one word instead.
type form struct {
	Server      string              `yaml:"server"`
	Labels      []string            `yaml:"labels,omitempty"`
	Bucket      string              `yaml:"bucket"`
	Trust       *trustForm          `yaml:"trust,omitempty"`
	Poll        *duration           `yaml:"poll"`
	Listen      string              `yaml:"listen,omitempty"`
	TLS         *tlsForm            `yaml:"tls,omitempty"`
	PingToken   string              `yaml:"ping_token_file,omitempty"`
	Receipts    textOrBool          `yaml:"receipts"`
	Metrics     bool                `yaml:"metrics"`
	StatusPage  bool                `yaml:"status_page"`
	State       string              `yaml:"state"`
	Socket      string              `yaml:"socket"`
	Credentials *credentialsForm    `yaml:"credentials,omitempty"`
	Apps        map[string]*appForm `yaml:"apps"`
	Notify      []notifyForm        `yaml:"notify,omitempty"`
}

type appForm struct {
	App         string      `yaml:"app"`
	Prefix      string      `yaml:"prefix"`
	Environment string      `yaml:"environment"`
	Dir         string      `yaml:"dir"`
	Unit        string      `yaml:"unit,omitempty"`
	Restart     []string    `yaml:"restart,omitempty"`
	Health      *healthForm `yaml:"health"`
	Keep        *int        `yaml:"keep"`
	Shared      []string    `yaml:"shared,omitempty"`
	Hooks       *hooksForm  `yaml:"hooks,omitempty"`
	Trust       *trustForm  `yaml:"trust"`
	Pointer     string      `yaml:"pointer,omitempty"`
	Artifact    string      `yaml:"artifact,omitempty"`
}

type healthForm struct {
	HTTP   string    `yaml:"http,omitempty"`
	TCP    string    `yaml:"tcp,omitempty"`
	Exec   []string  `yaml:"exec,omitempty"`
	Expect string    `yaml:"expect,omitempty"`
	Within *duration `yaml:"within"`
	Stable *duration `yaml:"stable"`
	Passes *int      `yaml:"passes"`
}

type hooksForm struct {
	BeforeActivate []string `yaml:"before-activate,omitempty"`
	AfterHealthy   []string `yaml:"after-healthy,omitempty"`
}

type trustForm struct {
	Word      string   `yaml:"-"` // none
	Keys      []string `yaml:"keys,omitempty"`
	Threshold *int     `yaml:"threshold,omitempty"`
	Reverts   string   `yaml:"reverts,omitempty"`
}

type tlsForm struct {
	Word string `yaml:"-"` // auto, off
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

type credentialsForm struct {
	AccessKeyID     string `yaml:"access_key_id_file,omitempty"`
	SecretAccessKey string `yaml:"secret_access_key_file,omitempty"`
}

type notifyForm struct {
	Webhook Secret   `yaml:"webhook"`
	On      []string `yaml:"on"`
}

// textOrBool is text that true and false stand for too.
type textOrBool string

// MarshalYAML implements yaml.InterfaceMarshaler.
func (t textOrBool) MarshalYAML() (any, error) {
	if b, err := strconv.ParseBool(string(t)); err == nil && (t == "true" || t == "false") {
		return b, nil
	}
	return string(t), nil
}

// duration is written as Go writes it: 30s, 5m.
type duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d duration) MarshalText() ([]byte, error) {
	text := time.Duration(d).String() // 1m30s, but also 5m0s and 1h0m0s
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return []byte(text), nil
}

// MarshalYAML implements yaml.InterfaceMarshaler.
func (t trustForm) MarshalYAML() (any, error) {
	if t.Word != "" {
		return t.Word, nil
	}
	type plain trustForm
	return plain(t), nil
}

// MarshalYAML implements yaml.InterfaceMarshaler.
func (t tlsForm) MarshalYAML() (any, error) {
	if t.Word != "" {
		return t.Word, nil
	}
	type plain tlsForm
	return plain(t), nil
}

// defaults, where they are the same for everyone.
const (
	defaultPoll     = duration(30 * time.Second)
	defaultWithin   = duration(30 * time.Second)
	defaultStable   = duration(5 * time.Second)
	defaultKeep     = 3
	defaultState    = "/var/lib/towline"
	defaultSocket   = "/run/towline/agent.sock"
	defaultArtifact = "{hash}.tar.gz"
)

// changes are what a webhook may be told of.
var changes = []string{"rolled-back", "failed", "broken", "recovered"}

// fill writes the default into everything that the file left out.
func (f *form) fill(host string) {
	set(&f.Server, host)
	if f.Receipts == "" {
		f.Receipts = "true"
	}
	set(&f.State, defaultState)
	set(&f.Socket, defaultSocket)
	f.State = cut(f.State)
	f.Poll = or(f.Poll, defaultPoll)
	if f.TLS == nil && f.Listen != "" {
		f.TLS = &tlsForm{Word: string(TLSAuto)}
	}
	for key, a := range f.Apps {
		if a == nil {
			a = &appForm{}
			f.Apps[key] = a
		}
		a.fill(key, f.Trust)
	}
	for i := range f.Notify {
		if f.Notify[i].On == nil {
			f.Notify[i].On = changes
		}
	}
}

func (a *appForm) fill(key string, above *trustForm) {
	set(&a.App, key)
	set(&a.Prefix, a.App)
	set(&a.Environment, "production")
	set(&a.Dir, "/srv/"+key)
	a.Dir = cut(a.Dir)
	a.Keep = or(a.Keep, defaultKeep)
	if a.Health == nil {
		a.Health = &healthForm{}
	}
	h := a.Health
	h.Within, h.Passes = or(h.Within, defaultWithin), or(h.Passes, 1)
	if a.Unit != "" {
		h.Stable = or(h.Stable, defaultStable)
	} else {
		h.Stable = or(h.Stable, 0)
	}
	a.Trust = a.Trust.over(above)
	if a.Trust != nil && a.Trust.Word == "none" {
		set(&a.Pointer, release.PointerKey(a.Prefix, a.Environment))
		set(&a.Artifact, defaultArtifact)
	}
}

// over is an app's trust above the common one: keys and threshold belong together and replace those above; reverts is
// taken from above where the app does not write it. Nil when there is neither.
func (t *trustForm) over(above *trustForm) *trustForm {
	if t == nil && above == nil {
		return nil
	}
	var out trustForm
	switch {
	case t == nil:
		out = *above
	case above == nil:
		out = *t
	default:
		out = *t
		if t.Word == "" && t.Keys == nil {
			out.Word, out.Keys = above.Word, above.Keys
			if t.Threshold == nil {
				out.Threshold = above.Threshold
			}
		}
		set(&out.Reverts, above.Reverts)
	}
	if out.Word == "" {
		out.Threshold = or(out.Threshold, 1)
		set(&out.Reverts, "follow")
	}
	return &out
}

// text is the form as YAML.
func (f *form) text() (string, error) {
	shown := *f
	shown.Apps = maps.Clone(f.Apps)
	for key, app := range shown.Apps {
		a, h := *app, *app.Health
		h.HTTP, a.Health = redacted(h.HTTP), &h
		shown.Apps[key] = &a
	}
	out, err := yaml.MarshalWithOptions(&shown, yaml.IndentSequence(true))
	return string(out), err
}

func set(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// cut drops the slash that some write at the end of a directory.
func cut(dir string) string { return strings.TrimSuffix(dir, "/") }

func or[T any](have *T, value T) *T {
	if have != nil {
		return have
	}
	return &value
}
