package cli

import (
	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/publish"
)

func (p *program) publishCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "publish",
		Short: "Pack a directory and put the release into the bucket; --promote makes it live too",
		Long: `Pack a directory and put it into the bucket as a signed release. With --promote move the pointer to it, ring the
servers and wait until they are live and healthy: all that the action does.

The key comes from TOWLINE_SIGNING_KEY, the token of the ping, where there is one, from TOWLINE_PING_TOKEN, credentials
of the bucket from where the AWS SDK finds them. What is not said of the release (--version, --message, --date) is taken
from the last commit.`,
		Example: "  towline publish --promote --app web --path dist --bucket s3://my-deploys --servers https://203.0.113.7:8422#sha256=…",
	}
	promote := cmd.Flags().Bool("promote", false, "make it live: move the pointer, ring the servers, wait for them")
	in := p.inputs(cmd, publish.Publish, makeFlags, readFlags, moveFlags)
	in.reason = reasonFlag(cmd)
	asJSON, verbose := runFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *promote {
			in.command = publish.Deploy
		}
		return in.run(cmd.Context(), *asJSON, *verbose)
	}
	return cmd
}

func (p *program) promoteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "promote VERSION",
		Short: "Move the pointer to a release that is in the bucket, newer or older",
		Long: `Move the pointer of an environment to a release that is in the bucket: a version, a unique prefix of 7 or more, or
"previous". Ring the servers and wait until they are live and healthy.`,
		Args: atMost("VERSION"),
	}
	in := p.inputs(cmd, publish.Promote, readFlags, moveFlags)
	in.reason = reasonFlag(cmd)
	asJSON, verbose := runFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := versionArg(cmd, args, 0); err != nil {
			return err
		}
		if cmd.Flag("version").Value.String() == "" {
			return usagef("no version: want a version, a prefix of it of 7 or more, or previous")
		}
		return in.run(cmd.Context(), *asJSON, *verbose)
	}
	return cmd
}

// runFlags are the flags of verbs that write into the bucket.
func runFlags(cmd *cobra.Command) (asJSON, verbose *bool) {
	asJSON = cmd.Flags().Bool("json", false, "print the report as JSON, the log to standard error")
	return asJSON, cmd.Flags().Bool("verbose", false, "print details too")
}

// versionArg takes --version from the positional argument at i, which must not contradict it.
func versionArg(cmd *cobra.Command, args []string, i int) error {
	if i >= len(args) {
		return nil
	}
	flag := cmd.Flag("version")
	if flag.Changed && flag.Value.String() != args[i] {
		return usagef("two versions, %q and --version %q", args[i], flag.Value.String())
	}
	return cmd.Flags().Set("version", args[i])
}
