package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCheckCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and print what is in effect, without secrets",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.loadConfig(cmd, needApps)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.Out, cfg.Redacted())
			return err
		},
	}
}
