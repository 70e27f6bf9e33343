package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dingrecall/config"
)

// configPath is the annotation of a flag that overrides a configuration key.
const configPath = "dingrecall_config_path"

// bindConfig makes a flag, where it is given, override the configuration key of this path (worker.linger, say). The flag's own
// default is not looked at: the configuration's holds.
func bindConfig(flags *pflag.FlagSet, name, path string) {
	if err := flags.SetAnnotation(name, configPath, []string{path}); err != nil {
		panic(fmt.Sprintf("binding a flag that does not exist: %v", err))
	}
}

// need is what a command asks of the configuration beyond its being valid.
type need int

const (
	// needRedis is for commands that only talk to Redis: no apps, and no secrets of apps are read.
	needRedis need = iota
	// needApps is for commands that call the service: at least one app, all of them with credentials.
	needApps
)

// loadConfig loads the configuration for a command: the file of --config or RECALL_CONFIG, the environment, and the flags that
// were given and are bound to a key. Warnings go to standard error.
func (a *app) loadConfig(cmd *cobra.Command, what need) (*config.Config, error) {
	file := a.configFile
	if file == "" && !cmd.Flags().Changed("config") {
		file = a.Getenv("RECALL_CONFIG")
	} else if file == "" {
		return nil, badInput(errors.New("--config: the name of a file is missing"))
	}
	overlay := map[string]config.Flag{}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if path := f.Annotations[configPath]; len(path) == 1 {
			overlay[path[0]] = config.Flag{Name: "--" + f.Name, Value: f.Value.String()}
		}
	})
	cfg, err := config.Load(config.Sources{
		File: file, Environ: a.Environ, Flags: overlay, SkipAppSecrets: what == needRedis,
	})
	if err == nil && what == needApps {
		err = cfg.RequireApps()
	}
	if err != nil {
		return nil, badInput(err)
	}
	for _, warning := range cfg.Warnings {
		fmt.Fprintf(a.Err, "recall: warning: %s\n", warning)
	}
	return cfg, nil
}

// flagError turns pflag's errors into a line that says what to do.
func flagError(cmd *cobra.Command, err error) error {
	hint := fmt.Sprintf("see \"%s --help\"", cmd.CommandPath())
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if near := nearestFlag(cmd, unknown.GetSpecifiedName()); near != "" {
			hint = fmt.Sprintf("did you mean --%s? Otherwise %s", near, hint)
		}
	}
	return badInput(fmt.Errorf("%w; %s", err, hint))
}

// nearestFlag returns the flag that a mistyped name probably means, or "".
func nearestFlag(cmd *cobra.Command, name string) string {
	var names []string
	collect := func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	}
	cmd.Flags().VisitAll(collect)
	cmd.InheritedFlags().VisitAll(collect)
	if len([]rune(strings.TrimLeft(name, "-"))) < 2 {
		return ""
	}
	return config.Nearest(name, names)
}
