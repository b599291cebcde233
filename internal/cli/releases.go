package cli

import (
	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/deployment"
)

func (p *program) releasesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "releases [APP]", Short: "List releases, newest first: what rollback can go back to", Args: atMost("APP"),
		Long: `List the releases that this server has, or has had, newest first. With --bucket, those that lie in the bucket.`,
	}
	p.socketFlags(cmd)
	in := p.readInputs(cmd)
	asJSON := jsonFlag(cmd)
	n := cmd.Flags().IntP("lines", "n", 20, "how many `releases` at most")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := p.appArg(args, 0); err != nil {
			return err
		}
		if _, err := positive(*n, "lines"); err != nil {
			return err
		}
		on, err := p.painter()
		if err != nil {
			return err
		}
		bucket, err := in.bucket()
		if err != nil {
			return err
		}
		var list []deployment.Release
		if bucket {
			if list, err = in.releases(cmd.Context(), *n); err != nil {
				return err
			}
		} else {
			detail, err := p.agent().detail(cmd.Context(), p.app)
			if err != nil {
				return err
			}
			list = detail.Releases
		}
		list = list[:min(len(list), *n)]
		if *asJSON {
			return p.printJSON(append([]deployment.Release{}, list...))
		}
		if len(list) == 0 {
			p.printf("no release yet\n")
			return nil
		}
		var t table
		if bucket { // how a release did is for the servers to say
			t.add("RELEASE", "DATE", "WHERE", "MESSAGE")
			for _, r := range list {
				t.add(named(r.Seq, r.Hash), day(r.Date), place(r, true), r.Msg)
			}
			t.print(p.env.Stdout, on, none)
			return nil
		}
		t.add("OUTCOME", "RELEASE", "DATE", "WHERE", "MESSAGE")
		for _, r := range list {
			t.add(string(r.Outcome), named(r.Seq, r.Hash), day(r.Date), place(r, false), r.Msg)
		}
		t.print(p.env.Stdout, on, 0)
		return nil
	}
	return cmd
}

// place says where a release is, as seen from the bucket or from a server.
func place(r deployment.Release, inBucket bool) string {
	switch {
	case inBucket && r.Live:
		return "the pointer" // what is live is for the servers to say
	case inBucket:
		return "in the bucket"
	case r.Live:
		return "live"
	case r.OnDisk:
		return "on disk"
	}
	return "gone from disk"
}
