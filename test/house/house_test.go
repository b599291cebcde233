// Package house holds the rules of the house: which room may import which. The rooms, floor by floor:
//
//	5  cmd/*                           the programs
//	4  demo                            composes publish and agent
//	3  action agent cli                faces: wire adapters into engines
//	2  publish deploy                  engines: floor 0 only, with small interfaces of their own
//	1  bucket artifact appdir config grant service health journal ping github    adapters, strangers to each other
//	0  release deployment durable      ground: the standard library only
package house

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/towline/towline/"

var floors = map[string]int{
	"release": 0, "deployment": 0, "durable": 0,
	"bucket": 1, "artifact": 1, "appdir": 1, "config": 1, "grant": 1, "service": 1, "health": 1, "journal": 1, "ping": 1, "github": 1,
	"publish": 2, "deploy": 2,
	"action": 3, "agent": 3, "cli": 3,
	"demo": 4, "cmd": 5,
}

// sole names the one room that may import a vendor's SDK.
var sole = map[string]string{
	"github.com/aws/":                       "bucket",
	"github.com/sethvargo/go-githubactions": "action",
	"github.com/google/go-github":           "github",
	"github.com/coreos/go-systemd/v22/dbus": "service",
	"github.com/godbus/dbus":                "service",
	"github.com/goccy/go-yaml":              "config",
	"github.com/spf13/cobra":                "cli",
	"github.com/klauspost/compress":         "artifact",
}

var (
	badNames = []string{"util", "utils", "common", "types", "models", "pkg", "helpers", "misc"}
	// strangers may meet in demo only.
	strangers = [][2]string{{"publish", "deploy"}, {"action", "agent"}}
	// pure rooms touch no disk, network, clock or environment.
	pure   = []string{"release", "deployment"}
	impure = []string{"os", "net", "net/http", "os/exec", "syscall", "log", "log/slog", "path/filepath", "io/ioutil"}
)

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	GoFiles    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps,GoFiles", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// room returns the room of a package of ours: "release" for internal/release and what lies below it, "cmd" for the
// programs, "" for anything else.
func room(path string) string {
	rest, ok := strings.CutPrefix(path, module)
	if !ok {
		return ""
	}
	if strings.HasPrefix(rest, "cmd/") {
		return "cmd"
	}
	rest, ok = strings.CutPrefix(rest, "internal/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

func TestImportsPointDown(t *testing.T) {
	seen := 0
	for _, p := range list(t) {
		for _, part := range strings.Split(strings.TrimPrefix(p.ImportPath, module), "/") {
			if slices.Contains(badNames, part) {
				t.Errorf("%s: a room is named for what it holds, not %q", p.ImportPath, part)
			}
		}
		from := room(p.ImportPath)
		if from == "" || len(p.GoFiles) == 0 {
			continue
		}
		// Suites that tests import, such as bucket/buckettest, follow the same rules as their room.
		floor, known := floors[from]
		if !known {
			t.Errorf("%s: room %q is not on the plan of the house", p.ImportPath, from)
			continue
		}
		seen++
		for _, imp := range p.Imports {
			if strings.HasPrefix(imp, module+"test/") {
				t.Errorf("%s imports %s: only tests may", p.ImportPath, imp)
			}
			to := room(imp)
			if to == from {
				continue
			}
			if to == "" {
				for vendor, owner := range sole {
					if strings.HasPrefix(imp, vendor) && from != owner {
						t.Errorf("%s imports %s: only room %s may", p.ImportPath, imp, owner)
					}
				}
				if floor == 0 && strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") {
					t.Errorf("%s imports %s: the ground floor stands on the standard library alone", p.ImportPath, imp)
				}
				if slices.Contains(pure, from) && slices.Contains(impure, imp) {
					t.Errorf("%s imports %s: the room is pure", p.ImportPath, imp)
				}
				continue
			}
			if floors[to] >= floor {
				t.Errorf("%s (floor %d) imports %s (floor %d): imports point down only", p.ImportPath, floor, imp, floors[to])
			}
			if floor == 2 && floors[to] != 0 {
				t.Errorf("%s imports %s: engines import the ground floor only", p.ImportPath, imp)
			}
		}
		if from == "demo" || p.ImportPath == module+"cmd/towline" {
			continue
		}
		for _, pair := range strangers {
			if reaches(p, pair[0]) && reaches(p, pair[1]) {
				t.Errorf("%s reaches both %s and %s: only demo composes them", p.ImportPath, pair[0], pair[1])
			}
		}
	}
	if seen < 3 {
		t.Fatalf("saw %d packages of the house; is go list looking at the right module?", seen)
	}
}

func reaches(p pkg, name string) bool {
	return room(p.ImportPath) == name || slices.Contains(p.Deps, module+"internal/"+name)
}
