package bench

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// row is one line of the table.
type row struct {
	what   string
	have   sample
	format func(float64) string
	note   string // behind the value

	peer  string // what people use today; empty: nothing was measured beside it
	other sample // of the peer, by the same rounds

	goal float64 // the most that the median may be: of the ratio where there is a peer, else of the value; 0: no goal

	promise string // the row of the one table of all goals that it is, one of promises; empty: none
	passes  string // instead of a goal: what it is that went well, without which the run would have failed
}

// ratios are those of the rounds, nil without a peer.
func (r row) ratios() sample {
	if r.other == nil {
		return nil
	}
	return r.have.beside(r.other)
}

// standing is the goal, and whether it is met.
func (r row) standing() (goal, verdict string) {
	if r.passes != "" {
		return r.passes, "met"
	}
	if r.goal == 0 {
		return "", ""
	}
	value, format := r.have.median(), r.format
	if r.other != nil {
		value, format = r.ratios().median(), ratio
	}
	if value <= r.goal {
		return "≤ " + format(r.goal), "met"
	}
	return "≤ " + format(r.goal), "**missed**"
}

// cells are all of a line but what it is about.
func (r row) cells() []string {
	goal, verdict := r.standing()
	other, ratios := "", ""
	if r.other != nil {
		other, ratios = r.other.show(r.format), r.ratios().show(ratio)
	}
	return []string{r.have.show(r.format) + r.note, r.peer, other, ratios, goal, verdict}
}

// table is what a run has measured.
type table struct {
	rows  []row
	notes []string // what could not be measured, and what the numbers rest on
	load  string   // of the machine when the run began
}

func (t *table) add(rows ...row) { t.rows = append(t.rows, rows...) }

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// print writes the table in Markdown.
func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n\n", t.machine())
	fmt.Fprintf(w, "| what | Towline | peer | the peer | ratio | goal | |\n|---|---|---|---|---|---|---|\n")
	for _, r := range t.rows {
		fmt.Fprintf(w, "| %s | %s |\n", r.what, strings.Join(r.cells(), " | "))
	}
	fmt.Fprintln(w)
	for _, note := range t.notes {
		fmt.Fprintf(w, "- %s\n", note)
	}
	fmt.Fprintln(w)
}

// machine is the shape of the machine that measured, without its name.
func (t *table) machine() string {
	var name unix.Utsname
	kernel := "unknown"
	if unix.Uname(&name) == nil {
		kernel, _, _ = strings.Cut(unix.ByteSliceToString(name.Release[:]), "-")
	}
	var memory unix.Sysinfo_t
	size := "unknown"
	if unix.Sysinfo(&memory) == nil {
		size = fmt.Sprintf("%.0f GiB", float64(memory.Totalram)*float64(memory.Unit)/(1<<30))
	}
	return fmt.Sprintf("%d cores, %s of memory, Linux %s, %s/%s, temporary files on %s, load average %s when it began; %s, %s, %s.",
		runtime.NumCPU(), size, kernel, runtime.Version(), runtime.GOARCH, filesystem(os.TempDir()), t.load,
		version("tar"), version("gzip"), version("zstd"))
}

// load is the machine's load average over a minute.
func load() string {
	data, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(data), " ")
	return one
}

// filesystem names the type of the filesystem of a directory.
func filesystem(dir string) string {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "an unknown filesystem"
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	kind, longest := "an unknown filesystem", -1
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 3 || len(f[1]) < longest {
			continue
		}
		if f[1] == "/" || dir == f[1] || strings.HasPrefix(dir, f[1]+"/") {
			kind, longest = f[2], len(f[1])
		}
	}
	return kind
}

// version is the name and the version of a peer's program.
func version(program string) string {
	out, err := exec.Command(program, "--version").Output()
	if err != nil {
		return "no " + program
	}
	first, _, _ := strings.Cut(string(out), "\n")
	for word := range strings.FieldsSeq(first) {
		if number := strings.Trim(word, "v,"); number != "" && number[0] >= '0' && number[0] <= '9' {
			return program + " " + number
		}
	}
	return program
}
