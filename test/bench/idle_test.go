package bench

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/test/parts"
)

var (
	idleTime = flag.Duration("idle", 0, "how long BenchmarkIdle watches the installed agent; it takes a minute more")
	idleApps = flag.String("idle-apps", "1,10,100", "with how many apps, one server for each number")
)

// BenchmarkIdle watches the agent as it is installed: on a booted server, under its packaged unit with all its limits, with
// apps that have units of their own, at the usual interval. Without root it is a plain process, and the table says so.
//
//	go test -run '^$' -bench Idle -timeout 60m ./test/bench -idle 1m
func BenchmarkIdle(b *testing.B) {
	if *idleTime == 0 {
		b.Skip("say for how long: -idle 1m")
	}
	for b.Loop() {
		t, began := &table{load: load()}, time.Now()
		bin := programs(b)
		for _, number := range strings.Split(*idleApps, ",") {
			apps, err := strconv.Atoi(number)
			if err != nil || apps < 1 {
				b.Fatalf("-idle-apps %s: want numbers", *idleApps)
			}
			one, at := &turn{TB: b}, time.Now()
			func() {
				defer one.end()
				measureIdle(one, t, bin, apps)
			}()
			fmt.Fprintf(os.Stderr, "idle, %d apps: %.0f s\n", apps, time.Since(at).Seconds())
		}
		measureSize(b, t, bin)
		one := &turn{TB: b}
		func() {
			defer one.end()
			measureRest(one, t, bin, *idleTime/3)
		}()
		t.took("Idle", began)
		t.hold(b, "Idle")
		var text strings.Builder
		t.print(&text)
		fmt.Print(text.String())
		if *write && !b.Failed() {
			writeFigures(b, "idle", text.String())
		}
	}
}

func measureIdle(b testing.TB, t *table, bin string, count int) {
	y := newYard(b, bin)
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "run"), []byte("#!/bin/sh\nexec sleep infinity\n"), 0o755); err != nil {
		b.Fatal(err)
	}
	var apps []string
	for i := range count {
		app := fmt.Sprintf("app-%d", i)
		apps = append(apps, app)
		y.publish(b, app, dir, y.url, "--promote")
	}
	const poll = 30 * time.Second
	var pid int
	if os.Getuid() == 0 {
		pid = install(b, y, bin, apps)
	} else {
		t.note("Without root there is no server to install the agent on: it was a plain process, its apps had no units.")
		a := newAgent(b, y, ground(b, t), "resting", poll, true, apps...)
		eventually(b, "all apps are live", func() bool {
			var o deployment.Overview
			a.get(b, "/v1/apps", &o)
			return deployed(o) == count
		})
		pid = a.pid
	}
	<-time.After(time.Minute) // what was deployed and told is let go

	y.gateway.reset()
	before, began := watch(b, pid), time.Now()
	var rss, anon, pss sample
	tick := time.NewTicker(*idleTime / 20)
	defer tick.Stop()
	for range 20 {
		<-tick.C
		for field, into := range map[string]*sample{"VmRSS": &rss, "RssAnon": &anon} {
			v, err := status(pid, field)
			if err != nil {
				b.Fatal(err)
			}
			*into = append(*into, v)
		}
		pss = append(pss, proportional(b, pid))
	}
	took := time.Since(began).Seconds()
	after := watch(b, pid)
	requests, wire := y.gateway.counted()
	var kinds []string
	total := 0
	for _, kind := range slices.Sorted(maps.Keys(requests)) {
		kinds = append(kinds, fmt.Sprintf("%d × %s", requests[kind], kind))
		total += requests[kind]
	}
	polls := float64(requests["GET 304 pointer"])
	if polls == 0 {
		b.Fatalf("no poll within %.0f s; requests were %v", took, kinds)
	}
	used := after.cpu - before.cpu
	t.add(
		row{what: fmt.Sprintf("installed agent, idle with %d apps: RSS", count), have: rss, format: mebibytes, goal: only10(count, 20<<20),
			promise: promised(count, "RSS")},
		row{what: "of it anonymous", have: anon, format: mebibytes},
		row{what: "PSS: pages that others use too count in part", have: pss, format: mebibytes},
		row{what: "processor, of one core", have: sample{used / took}, format: percent, goal: only10(count, 0.0005),
			promise: promised(count, "processor, of one core")},
		row{what: "times that it was woken, a second", have: sample{(after.switches - before.switches) / took}, format: ratio},
		row{what: "requests, an app and poll's interval, receipts included", have: sample{float64(total) * poll.Seconds() / float64(count) / took}, format: ratio},
		row{what: "bytes on the wire, both ways, receipts included, an app and hour", have: sample{float64(wire) / float64(count) / took * 3600}, format: bytes},
		row{what: "processor time of a poll, all else that the agent does included", have: sample{used / polls}, format: seconds, goal: only10(count, 0.002),
			promise: map[bool]string{true: "a poll with nothing new: processor time"}[count == 10]},
	)
	t.note("The idle agent with %d apps asked in %.0f s: %s.", count, took, strings.Join(kinds, ", "))
}

// promised is the promise about an agent with ten apps.
func promised(apps int, what string) string {
	if apps != 10 {
		return ""
	}
	return "agent idle with 10 apps: " + what
}

// only10 is a goal that was set for ten apps.
func only10(apps int, goal float64) float64 {
	if apps != 10 {
		return 0
	}
	return goal
}

// deployed counts the apps whose last deployment has made its release live.
func deployed(o deployment.Overview) (live int) {
	for _, r := range o.Apps {
		if d := r.Deployment; d != nil && d.Outcome == deployment.Deployed {
			live++
		}
	}
	return live
}

// install boots a server, installs the agent with its packaged unit, and the apps with units and users of theirs, waits
// until all are live, and returns the agent's process id as this machine sees it.
func install(b testing.TB, y *yard, bin string, apps []string) (pid int) {
	b.Helper()
	d := parts.NewDroplet(b, parts.DropletOptions{Name: "web-1"})
	packaging := filepath.Join(parts.Root(b), "packaging")
	for from, to := range map[string]string{
		filepath.Join(bin, "towline"): "/usr/bin/towline", filepath.Join(bin, "towline-agent"): "/usr/bin/towline-agent",
		filepath.Join(packaging, "towline-agent.service"): "/usr/lib/systemd/system/towline-agent.service",
		filepath.Join(packaging, "towline.sysusers"):      "/usr/lib/sysusers.d/towline.conf",
		filepath.Join(packaging, "towline.tmpfiles"):      "/usr/lib/tmpfiles.d/towline.conf",
	} {
		mode := os.FileMode(0o644)
		if strings.HasPrefix(to, "/usr/bin/") {
			mode = 0o755
		}
		d.CopyIn(b, from, to, mode)
	}
	d.Run(b, "systemd-sysusers")
	d.Run(b, "systemd-tmpfiles", "--create", "towline.conf")
	for name, value := range map[string]string{"access-key-id": y.gateway.store.AccessKey, "secret-access-key": y.gateway.store.SecretKey} {
		d.WriteFile(b, "/etc/towline/"+name, []byte(value), 0o600)
		d.Run(b, "chown", "towline:", "/etc/towline/"+name)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "server: web-1\nbucket: %q\ntrust: {keys: [%q]}\nlisten: %q\n", y.url, y.key.Public(), parts.FreeAddr(b))
	fmt.Fprintf(&text, "credentials: {access_key_id_file: /etc/towline/access-key-id, secret_access_key_file: /etc/towline/secret-access-key}\napps:\n")
	for _, app := range apps {
		fmt.Fprintf(&text, "  %s: {unit: %s.service}\n", app, app)
		d.Run(b, "useradd", "--system", app)
		d.WriteFile(b, "/etc/systemd/system/"+app+".service", fmt.Appendf(nil, "[Service]\nUser=%s\nExecStart=/srv/%s/current/run\n", app, app), 0o644)
	}
	d.WriteFile(b, "/etc/towline/agent.yaml", []byte(text.String()), 0o644)
	d.Run(b, "systemctl", "daemon-reload")
	for _, app := range apps {
		d.Run(b, "towline", "app", "add", app)
	}
	d.Run(b, "systemctl", "start", "towline-agent.service")
	d.WaitActive(b, "towline-agent.service")
	said := ""
	within(b, 5*time.Minute, "all apps are live", func() bool {
		var o deployment.Overview
		said, _ = d.TryRun(b, "towline", "status", "--json")
		return json.Unmarshal([]byte(said), &o) == nil && deployed(o) == len(apps)
	})
	inside := strings.TrimSpace(d.Run(b, "systemctl", "show", "--property=MainPID", "--value", "towline-agent.service"))
	return outside(b, inside, "towline-agent")
}

// outside is the process id, as this machine sees it, of a process of that name that has the id inside in a namespace below.
func outside(b testing.TB, inside, name string) int {
	b.Helper()
	all, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, path := range all {
		text, _ := os.ReadFile(path)
		_, ids, _ := strings.Cut(string(text), "\nNSpid:")
		line, _, _ := strings.Cut(ids, "\n")
		seen := strings.Fields(line)
		if strings.HasPrefix(string(text), "Name:\t"+name+"\n") && len(seen) > 1 && seen[len(seen)-1] == inside {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			return pid
		}
	}
	b.Fatalf("no process %s with the id %s inside", name, inside)
	return 0
}

// work is what a process has done so far.
type work struct {
	cpu      float64 // seconds
	switches float64 // of context, of all threads
}

// watch reads it thread by thread, where the kernel counts in nanoseconds. The agent's threads do not end.
func watch(b testing.TB, pid int) (w work) {
	b.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	if len(tasks) == 0 {
		b.Fatalf("process %d has ended", pid)
	}
	for _, task := range tasks {
		sched, _ := os.ReadFile(filepath.Join(task, "schedstat"))
		spent, _, _ := strings.Cut(string(sched), " ")
		nanoseconds, err := strconv.ParseFloat(spent, 64)
		if err != nil {
			b.Fatalf("%s/schedstat: %q", task, sched)
		}
		w.cpu += nanoseconds / 1e9
		text, _ := os.ReadFile(filepath.Join(task, "status"))
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.HasSuffix(name, "voluntary_ctxt_switches") {
				n, _ := strconv.ParseFloat(strings.TrimSpace(value), 64)
				w.switches += n
			}
		}
	}
	return w
}

// proportional is the memory of a process in which a page that n processes use counts an nth, in bytes.
func proportional(b testing.TB, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "Pss:"); ok {
			kilobytes, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			return kilobytes * 1024
		}
	}
	b.Fatalf("/proc/%d/smaps_rollup has no Pss", pid)
	return 0
}
