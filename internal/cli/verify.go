package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/release"
)

func (p *program) verifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify [APP]", Short: "Read every release on this server and compare it with what was unpacked", Args: atMost("APP"),
		Long: `Read every release directory of the app and compare it with what was unpacked: contents, modes, links, what is missing
and what was added. Shared paths are left out. A release that was changed is not used again: rolling back to it fetches it
again. What is live is left alone; deploy --force fetches it again.

Exit code 6 if any release was changed. A release that nothing is known of (found by recover) is no failure.`,
	}
	p.socketFlags(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := p.appArg(args, 0); err != nil {
			return err
		}
		agent := p.agent()
		app, err := agent.only(cmd.Context(), p.app)
		if err != nil {
			return err
		}
		result, err := agent.do(cmd.Context(), app, "verify", deployment.Command{}, nil)
		if err != nil {
			return err
		}
		if *asJSON {
			if err := p.printJSON(struct {
				Releases []deployment.Verification `json:"releases"`
			}{append([]deployment.Verification{}, result.Releases...)}); err != nil {
				return err
			}
		} else {
			p.verified(app, result.Releases)
		}
		return exit(verifyCode(result.Releases))
	}
	return cmd
}

// verifyCode is the exit code that stands for all.
func verifyCode(all []deployment.Verification) int {
	code := deployment.ExitOK
	for _, v := range all {
		switch {
		case v.State == deployment.Drifted:
			return deployment.ExitRefused
		case v.State == deployment.Unread:
			code = deployment.ExitError
		}
	}
	return code
}

// verified prints what each release was found to be, and then why.
func (p *program) verified(app string, all []deployment.Verification) {
	if len(all) == 0 {
		p.printf("%s: no release on this server yet\n", app)
		return
	}
	var t table
	t.add("FOUND", "RELEASE", "DIRECTORY", "WHERE")
	for _, v := range all {
		where := "on disk"
		if v.Live {
			where = "live"
		}
		t.add(string(v.State), named(v.Seq, v.Hash), v.Name, where)
	}
	t.print(p.env.Stdout, false, none)
	for _, v := range all {
		if v.State != deployment.Sound {
			p.printf("\n%s", strings.Join(whyNot(v), "\n")+"\n")
		}
	}
}

// whyNot says in lines what is wrong with a release.
func whyNot(v deployment.Verification) []string {
	head := fmt.Sprintf("%s: %s", release.CleanText(v.Name, 80), v.State)
	if v.Reason != "" {
		head += ": " + release.CleanText(v.Reason, 500)
	}
	lines := []string{head}
	for _, d := range v.Differ {
		lines = append(lines, fmt.Sprintf("  %-8s %s", release.CleanText(d.What, 20), release.CleanText(d.Path, 500)))
	}
	if v.More > 0 {
		lines = append(lines, fmt.Sprintf("  and %d more", v.More))
	}
	return lines
}
