package cli

import (
	"cmp"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/publish"
)

func (p *program) rollbackCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollback [VERSION]",
		Short: "Go back to the previous release, or to VERSION",
		Long: `Go back to the release before the live one, or to VERSION: a version, or a unique prefix of 7 or more.

On a server this goes back at once, from its own disk. It stays there until another pointer arrives, or resume; where
there are several apps, the app's name may stand before VERSION. With --bucket the pointer is moved, and every server
of the environment follows.`,
		Args: atMost("APP", "VERSION"),
	}
	p.socketFlags(cmd)
	in := p.inputs(cmd, publish.Rollback, readFlags, moveFlags)
	in.reason = reasonFlag(cmd)
	asJSON, verbose := runFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		bucket, err := in.bucket()
		if err != nil {
			return err
		}
		switch {
		case len(args) == 2:
			if err := p.appArg(args, 0); err != nil {
				return err
			}
			args = args[1:]
		case len(args) == 1 && p.app == "" && !bucket:
			// Every other verb takes the app here, so that its name in this place can only mean the app.
			// The agent knows its apps by their keys in its configuration too.
			switch _, err := p.agent().detail(cmd.Context(), args[0]); {
			case err == nil:
				p.app, args = args[0], nil
			case exitCode(err) != deployment.ExitUnknown:
				return err
			}
		}
		if err := versionArg(cmd, args, 0); err != nil {
			return err
		}
		if bucket {
			return in.run(cmd.Context(), *asJSON, *verbose)
		}
		version := cmp.Or(cmd.Flag("version").Value.String(), "previous")
		return p.command(cmd.Context(), "rollback", deployment.Command{Version: version, Reason: *in.reason}, *asJSON)
	}
	return cmd
}
