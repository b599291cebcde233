package cli

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/cli/gc"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/publish"
	"github.com/towline/towline/internal/release"
)

// gcFlags are those of the bucket that say where it is; what is signed is not asked.
var gcFlags = []string{"bucket", "prefix", "aws-region", "endpoint-url", "force-path-style", "role-to-assume", "ca-bundle"}

const gcSettle = 5 * time.Second

func (p *program) gcCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "gc", Short: "Delete releases from the bucket that nothing refers to any more",
		Long: `Delete releases of an app from the bucket that nothing refers to any more, and abort uploads that were never finished.

A release stays when the pointer of any environment names it, or one of the last --keep entries of its history, or the receipt
of a server; and when it is younger than --older-than. Pointers, histories and receipts are never touched. What cannot be
read or understood ends the run before anything is deleted. Receipts that go to another bucket are not seen.

This key needs, beside what towline init --print-policy gives to CI, which deletes nothing: s3:ListBucket on PREFIX/*,
s3:GetObject on PREFIX/*, s3:DeleteObject on PREFIX/releases/*, and s3:ListBucketMultipartUploads with
s3:AbortMultipartUpload for what was never finished. Where the bucket keeps versions, space is free when they expire.`,
		Example: "  towline gc --bucket my-deploys --app web --dry-run\n  towline gc --bucket my-deploys --app web --older-than 90d --yes",
	}
	in := p.inputs(cmd, publish.Status, gcFlags)
	keep := cmd.Flags().Int("keep", 20, "how many `entries` of each environment's history keep their releases")
	older := cmd.Flags().String("older-than", "30d", "leave releases alone that are younger than this `age`")
	dry := cmd.Flags().Bool("dry-run", false, "print what would be deleted, and delete nothing")
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		on, err := p.painter()
		if err != nil {
			return err
		}
		if *keep < 1 {
			return usagef("--keep %d: at least 1", *keep)
		}
		age, err := days(*older)
		if err != nil || age < 24*time.Hour {
			return usagef("--older-than %q: want days, such as 30d, at least 1d", *older)
		}
		if !*dry && !*yes && (*asJSON || !terminal(p.env.Stdin)) {
			return &fault{err: errors.New("nobody can be asked here"), code: deployment.ExitUsage, hint: "--dry-run shows what would be deleted, --yes deletes it"}
		}
		o, err := publish.Parse(func(name string) string {
			switch name {
			case "trust": // a reference counts whoever signed it
				return "none"
			case "signing-key", "trusted-keys":
				return ""
			}
			return in.get(name)
		})
		if err != nil {
			return in.usage(err)
		}
		b, _, err := in.open(cmd.Context(), o)
		if err != nil {
			return err
		}
		if err := b.Check(cmd.Context()); err != nil {
			return in.explain(err)
		}
		plan, err := gc.Look(cmd.Context(), gc.Options{
			Bucket: b.(bucket.Upkeep), Prefix: cmp.Or(o.Prefix, o.App), Keep: *keep, OlderThan: age, Uploads: 24 * time.Hour,
			Settle: cmp.Or(p.settle, gcSettle), Now: p.now,
		})
		if err != nil {
			return in.collecting(err)
		}
		plan.DryRun = *dry
		if !*asJSON {
			p.collected(on, plan)
		}
		todo := len(plan.Remove)+len(plan.Abort) > 0
		if todo && !*dry && !*yes {
			if sure, err := p.ask(fmt.Sprintf("delete %s?", amount(plan))); err != nil || !sure {
				return cmp.Or(err, exit(deployment.ExitError))
			}
		}
		if todo && !*dry {
			err = plan.Carry(cmd.Context())
		}
		switch {
		case *asJSON:
			if printErr := p.printJSON(plan); printErr != nil {
				return printErr
			}
		case todo && !*dry && err == nil:
			p.printf("deleted %s\n", amount(plan))
		}
		if err != nil {
			return in.collecting(err)
		}
		return nil
	}
	return cmd
}

// collecting explains an error of the collector.
func (in *inputs) collecting(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return hinted(in.explain(err), "towline gc --help says which rights it needs; CI's printed policy does not have them")
	}
	return in.explain(err)
}

// collected prints a plan.
func (p *program) collected(on painter, plan *gc.Plan) {
	p.printf("%s: %s referred to or young", plan.Prefix, count(len(plan.Keep), "release"))
	if len(plan.Environments) > 0 {
		p.printf(", in %s", strings.Join(plan.Environments, ", "))
	}
	p.printf("\n")
	for _, note := range plan.Notes {
		p.printf("%s %s\n", on.paint(yellow, "note:"), release.CleanText(note, 500))
	}
	if len(plan.Remove)+len(plan.Abort) == 0 {
		p.printf("nothing to delete\n")
		return
	}
	if len(plan.Remove) > 0 {
		p.printf("\n")
		var t table
		t.add("DELETE", "ARTIFACT", "WRITTEN", "SIZE")
		for _, r := range plan.Remove {
			t.add(release.ShortHash(r.Version), r.SHA12, day(r.Modified), bytesText(r.Size))
		}
		t.print(p.env.Stdout, on, none)
	}
	for _, u := range plan.Abort {
		p.printf("abort an upload of %s, begun %s\n", release.CleanText(u.Key, 200), day(u.Begun))
	}
	if plan.DryRun {
		p.printf("\nwould delete %s; nothing was deleted\n", amount(plan))
	}
}

// amount is what a plan comes to.
func amount(plan *gc.Plan) string {
	text := fmt.Sprintf("%s (%s)", count(len(plan.Remove), "release"), bytesText(plan.Bytes))
	if n := len(plan.Abort); n > 0 {
		text += " and " + count(n, "unfinished upload")
	}
	return text
}

// bytesText is a size for people.
func bytesText(n int64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	case n < 10<<30:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d GiB", n>>30)
}

// days reads a number of days, as in 30d, or a duration.
func days(s string) (time.Duration, error) {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		count, err := strconv.Atoi(n)
		if err == nil && (count < 1 || count > 36500) {
			err = errors.New("out of range")
		}
		return time.Duration(count) * 24 * time.Hour, err
	}
	return time.ParseDuration(s)
}

// ask asks a person on the terminal; anything but yes is no.
func (p *program) ask(question string) (bool, error) {
	fmt.Fprintf(p.env.Stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(p.env.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}
