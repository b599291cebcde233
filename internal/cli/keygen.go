package cli

import (
	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/release"
)

func (p *program) keygenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a key pair: the private half signs in CI, the public half goes to the servers",
		Long:  "Make a key pair and print it. Nothing is written to a file.",
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error { return p.keyPair(*asJSON) }
	return cmd
}

// keyPair makes a key pair and prints it.
func (p *program) keyPair(asJSON bool) error {
	key, err := release.GenerateKey(nil)
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(struct {
			Public  string `json:"public"`
			Private string `json:"private"`
		}{key.Public().String(), key.Reveal()})
	}
	p.printf(`A new key pair. It is printed once and stored nowhere.

Private, for CI: the secret TOWLINE_SIGNING_KEY of the repository
(Settings, "Secrets and variables", "Actions"; or: gh secret set TOWLINE_SIGNING_KEY)

    %s

Public, for every server: in /etc/towline/agent.yaml

    trust:
      keys: ["%s"]
`, key.Reveal(), key.Public())
	return nil
}
