package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towline/towline/internal/cli/setup"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"towline": func() {
			p := &program{now: time.Now, watchEvery: 2 * time.Second, env: Env{
				Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
			}}
			if root := os.Getenv("SERVER_ROOT"); root != "" {
				p.machine = serverAt(root)
			}
			os.Exit(p.run(context.Background()))
		},
	})
}

// serverAt makes the guided init take a directory for a server, on which everything belongs to whoever runs the test.
func serverAt(root string) func(*setup.World) {
	return func(w *setup.World) {
		w.Root, w.Euid, w.Host = root, 0, "web-1"
		w.Addresses = func() []string { return []string{"203.0.113.7", "10.0.0.5"} }
		w.Account = func(string) (uid, gid int, err error) { return os.Getuid(), os.Getgid(), nil }
	}
}

// TestScripts runs testdata/script/*.txtar. Beside testscript's own commands there are
//
//	code N towline ARGS…  run it and demand this exit code; stdout and stderr look at its output
//	envsubst FILE         replace $NAME in it by the variables
//	hides FILE…           demand that no private key stands in any of them
//	empty DIR             demand that nothing lies in it; the lock of a directory bucket is nothing
//
// and the variables KEY and PUBLIC (a key pair), OTHER (a public key that signed nothing), BUCKET (a file:// URL of
// $WORK/bucket, which exists). With SERVER_ROOT the guided init takes that directory for a server, and its user for root.
func TestScripts(t *testing.T) { scripts(t, "testdata/script") }

// TestGitScripts are those that need git.
func TestGitScripts(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		parts.Skip(t, "git")
	}
	scripts(t, "testdata/git")
}

func scripts(t *testing.T, dir string) {
	t.Helper()
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: code N program args…")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				got := 0
				err = ts.Exec(args[1], args[2:]...)
				if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
					got = exit.ExitCode()
				} else {
					ts.Check(err)
				}
				if got != want {
					ts.Fatalf("%v: got exit code %d, want %d", args[1:], got, want)
				}
			},
			"envsubst": func(ts *testscript.TestScript, neg bool, args []string) {
				text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
			},
			"hides": func(ts *testscript.TestScript, neg bool, args []string) {
				for _, file := range args {
					if strings.Contains(ts.ReadFile(file), "towline-secret") {
						ts.Fatalf("%s has a private key in it", file)
					}
				}
			},
			"empty": func(ts *testscript.TestScript, neg bool, args []string) {
				entries, err := os.ReadDir(ts.MkAbs(args[0]))
				ts.Check(err)
				entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.Name() == ".towline" })
				if len(entries) > 0 {
					ts.Fatalf("%s: got %v, want it empty", args[0], entries)
				}
			},
		},
		Setup: func(env *testscript.Env) error {
			key, err := release.GenerateKey(nil)
			if err != nil {
				return err
			}
			other, err := release.GenerateKey(nil)
			if err != nil {
				return err
			}
			bucket := filepath.Join(env.WorkDir, "bucket")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // which is a second for every command
			env.Setenv("KEY", key.Reveal())
			env.Setenv("PUBLIC", key.Public().String())
			env.Setenv("OTHER", other.Public().String())
			env.Setenv("BUCKET", "file://"+bucket)
			env.Setenv("AWS_CONFIG_FILE", "/dev/null")
			env.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			return os.Mkdir(bucket, 0o755)
		},
	})
}
