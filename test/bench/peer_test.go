package bench

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/test/parts"
)

// peer is what people use today.
type peer struct {
	side  string
	whole bool // all of a release travels each time: what follows the first tree is measured with B alone
	push  bool // the publisher sends to the server itself
	begin func(t *turn) mover
}

// mover is a peer at work.
type mover struct {
	send  func(name, tree string) cost             // to the store
	fetch func(name, tree, base, dest string) cost // from it, into the new directory dest of the server, where base holds the release before, if any
	ci    func() float64                           // bytes on the publisher's wire since reset, if it has one
	net   func() float64                           // bytes on the server's wire since reset, likewise
	reset func()
	warm  string // what is read again when the caches were emptied, for being no part of the server
}

// peerTurn brings the same trees to a server as Towline's turn does.
func (w *world) peerTurn(p peer) func(*turn, figures) {
	return func(t *turn, f figures) {
		m := p.begin(t)
		dest := func(name string) string { return filepath.Join(t.ground, name) }
		bring := func(key, name, tree, base string, cold bool) {
			var c cost
			m.reset()
			if m.send != nil {
				c = m.send(name, tree)
				f[key+" publish"], f[key+" publisher"] = c.wall, c.peak
				if m.ci != nil {
					f[key+" up"] = m.ci()
				}
			}
			if cold {
				w.empty(t)
				if p.push {
					read(t, tree)
				}
				if m.warm != "" {
					read(t, m.warm)
				}
			}
			m.reset()
			if base != "" {
				base = dest(base)
			}
			to := dest(name + strings.Repeat("-cold", count(cold)))
			got := m.fetch(name, tree, base, to)
			f[key+" pull"], f[key+" server"] = got.wall, got.peak
			if m.net != nil {
				f[key+" down"] = m.net()
			}
			f[key+" all"] = c.wall + got.wall
			w.same(t, tree, to)
		}
		if w.plan.warm {
			bring("A", "A", w.tree("A"), "", false)
			if !p.whole && !w.plan.few {
				bring("fresh", "fresh", w.fresh, "A", false)
			}
			for _, tree := range w.plan.trees {
				if !p.whole || tree == "B" {
					bring(tree, tree, w.tree(tree), "A", false)
				}
			}
		}
		if w.plan.cold {
			bring("A cold", "A", w.tree("A"), "", true)
			bring("B cold", "B", w.tree("B"), "A-cold", true)
		}
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// bash runs a script, whose pipes fail when any of their programs does.
func bash(t *turn, c *cage, env []string, script string, args ...string) cost {
	t.Helper()
	line := c.under("bash", append([]string{"-euo", "pipefail", "-c", script, "bash"}, args...)...)
	_, spent := run(t, env, line[0], line[1:]...)
	return spent
}

// byHand moves an archive without any network: the least that a whole release can cost.
func byHand(t *turn) mover {
	file := func(name string) string { return filepath.Join(t.ground, name+".tar.zst") }
	return mover{reset: func() {},
		send: func(name, tree string) cost {
			return bash(t, nil, nil, reference, tree, file(name))
		},
		fetch: func(name, _, _, dest string) cost {
			return bash(t, t.cage, nil, `mkdir "$2"; tar -C "$2" --zstd -xf "$1"; sync -f "$2"`, file(name), dest)
		}}
}

// s3cli moves archives with the S3 command line, by two scripts; in them $S3 copies, $KEY is the object.
func s3cli(send, fetch string) func(*turn) mover {
	return func(t *turn) mover {
		s3 := parts.S3(t)
		bucket := s3.Bucket(t, "releases")
		g := newGateway(t, s3)
		ci, net := newWire(t, g.addr, t.shape), newWire(t, g.addr, t.shape)
		scratch := t.TempDir()
		aws, err := awsProgram()
		if err != nil {
			t.Fatal(err)
		}
		env := func(through *wire, name string) []string {
			return append(s3.Env(), "AWS_DEFAULT_REGION="+s3.Region, "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
				"S3="+aws+" --endpoint-url http://"+through.addr+" s3 cp --only-show-errors", "KEY=s3://"+bucket+"/"+name)
		}
		return mover{ci: ci.both, net: net.both, reset: func() { ci.reset(); net.reset() },
			send: func(name, tree string) cost {
				return bash(t, nil, env(ci, name), send, tree, filepath.Join(scratch, name))
			},
			fetch: func(name, _, _, dest string) cost {
				return bash(t, t.cage, env(net, name), fetch, dest, filepath.Join(t.ground, "incoming"))
			}}
	}
}

const (
	gzipSend  = `tar -C "$1" -czf "$2" .; $S3 "$2" "$KEY"; rm "$2"`
	gzipFetch = `mkdir "$1"; $S3 "$KEY" "$2"; tar -C "$1" -xzf "$2"; rm "$2"; sync -f "$1"`
	zstdSend  = `tar -C "$1" -cf - . | zstd -T0 -3 -q | $S3 - "$KEY"`
	zstdFetch = `mkdir "$1"; $S3 "$KEY" - | tar -C "$1" --zstd -xf -; sync -f "$1"`
)

// awsProgram finds the S3 command line itself, not a script that looks for it each time it is called.
func awsProgram() (string, error) {
	path, err := exec.LookPath("aws")
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err == nil && strings.HasPrefix(string(text), "#!/usr/bin/env bash") && strings.Contains(string(text), "pyenv") {
		if out, err := exec.Command("pyenv", "which", "aws").Output(); err == nil {
			return strings.TrimSpace(string(out)), nil
		}
	}
	return path, nil
}

// casync keeps chunks in a directory that is served over HTTP. It is told to leave out owners and times, without which it would find
// next to nothing again after a fresh checkout.
func casync(t *turn) mover {
	program := parts.Program(t, "casync", "casync")
	store := t.TempDir()
	addr := serve(t, http.FileServer(http.Dir(store)))
	net := newWire(t, addr, t.shape)
	var before float64
	return mover{warm: store, net: net.both, reset: func() { net.reset(); before = size(t, store) },
		ci: func() float64 { return size(t, store) - before },
		send: func(name, tree string) cost {
			return bash(t, nil, nil, `"$4" make --with=permissions --with=symlinks --store="$1/chunks" "$1/$2.caidx" "$3" >/dev/null`,
				store, name, tree, program)
		},
		fetch: func(name, _, base, dest string) cost {
			return bash(t, t.cage, nil, `"$1" extract --store="$2/chunks" ${3:+--seed="$3"} "$2/$4.caidx" "$5"; sync -f "$5"`,
				program, "http://"+net.addr, base, name, dest)
		}}
}

// rsync sends over ssh, and links what the release before has already.
func rsync(t *turn) mover {
	program := parts.Program(t, "rsync", "rsync")
	d := newSSHD(t)
	net := newWire(t, d.addr, t.shape)
	return mover{net: net.both, reset: net.reset,
		fetch: func(_, tree, base, dest string) cost {
			looked, peak := make(chan struct{}), make(chan float64)
			go func() { peak <- watchPeak(looked, d.pid) }()
			c := bash(t, nil, nil, `"$1" -az --delete ${3:+--link-dest="$3"} --rsh="$6" "$2/" "$4:$5/"; $6 "$4" sync -f "$5"`,
				program, tree, base, d.login, dest, d.command(net.addr))
			close(looked)
			c.peak = <-peak
			return c
		}}
}

// size is how many bytes the files of a directory have.
func size(b testing.TB, dir string) (sum float64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		sum += float64(info.Size())
		return err
	})
	if err != nil {
		b.Fatal(fmt.Errorf("size of %s: %w", dir, err))
	}
	return sum
}
