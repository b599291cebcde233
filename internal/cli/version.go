package cli

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/release"
)

func (p *program) versionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "Print the version"}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		v := struct {
			Version string `json:"version"`
			Commit  string `json:"commit,omitempty"`
			Go      string `json:"go"`
			OS      string `json:"os"`
			Arch    string `json:"arch"`
		}{Version: release.Version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
		if info, ok := debug.ReadBuildInfo(); ok {
			for _, s := range info.Settings {
				if s.Key == "vcs.revision" {
					v.Commit = s.Value
				}
			}
		}
		if *asJSON {
			return p.printJSON(v)
		}
		commit := ""
		if v.Commit != "" {
			commit = "commit " + release.ShortHash(v.Commit) + ", "
		}
		p.printf("towline %s (%s%s, %s/%s)\n", v.Version, commit, v.Go, v.OS, v.Arch)
		return nil
	}
	return cmd
}
