package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"

	"dingrecall/upstream"
)

// Sources is where a configuration comes from. Later ones win: defaults, File, Environ, Flags.
type Sources struct {
	// File is the YAML file; empty for none.
	File string
	// Environ is the environment as os.Environ gives it. Of it only what begins with RECALL_ is looked at.
	Environ []string
	// Flags are the values given on the command line, by path.
	Flags map[string]Flag
	// ReadFile reads the configuration and the secret files. Default: os.ReadFile, but little more than the largest of them.
	ReadFile func(name string) ([]byte, error)
	// Stat is asked for the permissions of secret files. Default os.Stat.
	Stat func(name string) (fs.FileInfo, error)
	// SkipAppSecrets leaves the apps' secrets unread, for commands that do not call the service and may not be able to read them.
	SkipAppSecrets bool
}

// Flag is a value from the command line.
type Flag struct {
	// Name is the flag's name as it is typed, for messages: --redis.
	Name string
	// Value is the text given.
	Value string
}

// Load reads, composes and checks a configuration. Its error is Problems, all of them at once. It changes nothing, opens no
// connection, and reads only the file and the secret files that it names.
func Load(sources Sources) (*Config, error) {
	if sources.ReadFile == nil {
		sources.ReadFile = readFile
	}
	if sources.Stat == nil {
		sources.Stat = os.Stat
	}
	l := &loader{sources: sources, cfg: Defaults(), merged: koanf.New("."), env: environment(sources.Environ)}
	l.cfg.sources = map[string]string{}
	l.readFile()
	l.readEnviron()
	l.readFlags()
	l.apply()
	l.cfg.Upstream.BaseURL = strings.TrimRight(l.cfg.Upstream.BaseURL, "/")
	l.readSecrets()
	l.readApps()
	l.unknownEnviron()
	l.problems = append(l.problems, l.cfg.validate(l.problems)...)
	if err := l.problems.sorted().Err(); err != nil {
		return nil, err
	}
	return l.cfg, nil
}

// readFile reads a file, and of one that is larger than any of ours (or endless, like a device) only enough to know that.
func readFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return io.ReadAll(io.LimitReader(file, maxFileBytes+1))
}

// loader carries a configuration through the steps of Load.
type loader struct {
	sources  Sources
	cfg      *Config
	merged   *koanf.Koanf
	env      map[string]string
	fileApps []any
	problems Problems
}

func (l *loader) problem(source, path, value, format string, args ...any) {
	l.problems = append(l.problems, Problem{Source: source, Path: path, Value: value, Message: fmt.Sprintf(format, args...)})
}

// add puts one layer over those before it, and remembers who said what. A redis URL is taken apart first, within its layer, so
// that a later layer's parts win over an earlier one's.
func (l *loader) add(values map[string]any, sourceOf func(path string) string) {
	l.expandRedisURL(values, sourceOf("redis.addr"))
	for path := range values {
		l.cfg.sources[path] = sourceOf(path)
	}
	// confmap cannot fail: it hands over a map.
	if err := l.merged.Load(confmap.Provider(values, "."), nil); err != nil {
		l.problem(sourceOf(""), "", "", "cannot be merged: %v", err)
	}
}

// readEnviron adds the variables of the schema, and takes them out of l.env; those of apps are looked at by readApps.
func (l *loader) readEnviron() {
	values := map[string]any{}
	for _, leaf := range l.cfg.leaves() {
		name := envName(leaf.path)
		if value, ok := l.env[name]; ok {
			delete(l.env, name)
			if value == "" {
				// Set to nothing is how an environment says "not set", in compose files and unit files above all.
				continue
			}
			values[leaf.path] = textValue(value)
		}
	}
	l.add(values, envName)
}

// readFlags adds the flags given.
func (l *loader) readFlags() {
	values := map[string]any{}
	known := map[string]bool{}
	for _, leaf := range l.cfg.leaves() {
		known[leaf.path] = true
	}
	for _, path := range slices.Sorted(maps.Keys(l.sources.Flags)) {
		flag := l.sources.Flags[path]
		if !known[path] {
			l.problem(flag.Name, path, "", "is not a key of the configuration")
			continue
		}
		values[path] = textValue(flag.Value)
	}
	l.add(values, func(path string) string { return l.sources.Flags[path].Name })
}

// apply writes the merged layers into the configuration.
func (l *loader) apply() {
	for _, leaf := range l.cfg.leaves() {
		if !l.merged.Exists(leaf.path) {
			continue
		}
		value := l.merged.Get(leaf.path)
		if complaint := leaf.set(value); complaint != "" {
			l.problem(l.cfg.sources[leaf.path], leaf.path, quote(value), "%s", complaint)
		}
	}
}

// readSecrets fills the secrets outside of apps: from the variable, or else from the file that is named.
func (l *loader) readSecrets() {
	targets := map[string]secretTarget{
		"redis.password": {&l.cfg.Redis.Password, &l.cfg.Redis.PasswordFile},
		"redis.tokenKey": {&l.cfg.Redis.TokenKey, &l.cfg.Redis.TokenKeyFile},
		"admin.token":    {&l.cfg.Admin.Token, &l.cfg.Admin.TokenFile},
	}
	for _, place := range secretPlaces {
		if place.path == "redis.tokenKey" && l.sources.SkipAppSecrets {
			delete(l.env, place.env) // only who has tokens has a use for it
			continue
		}
		target := targets[place.path]
		l.cfg.sources[place.path] = l.cfg.sources[place.fileKey]
		if value := l.env[place.env]; value != "" {
			l.cfg.sources[place.path] = place.env
			if l.cfg.sources[place.fileKey] == envName(place.fileKey) {
				l.problem(place.env, place.path, "", "is set, and so is %s; unset one of them", envName(place.fileKey))
			}
			*target.file = ""
			l.setSecret(target.secret, value, place.env, place.path)
		} else if *target.file != "" {
			l.secretFile(target, l.cfg.sources[place.fileKey], place.fileKey)
		}
		delete(l.env, place.env)
	}
	l.decodeTokenKey()
}

// relative finds a file that is named in the configuration file beside that file, and any other where the process stands.
func (l *loader) relative(name, source string) string {
	if source != l.fileLabel() || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(l.sources.File), name)
}

// fileLabel is how messages call the configuration file.
func (l *loader) fileLabel() string { return l.sources.File }

// unknownEnviron reports what begins with RECALL_ and means nothing. It shows names only: a mistyped name may hold a secret.
func (l *loader) unknownEnviron() {
	var known []string
	for _, leaf := range l.cfg.leaves() {
		known = append(known, envName(leaf.path))
	}
	for _, place := range secretPlaces {
		known = append(known, place.env)
	}
	for _, key := range appEnvKeys {
		known = append(known, singleAppEnv(key.suffix))
		for _, app := range l.cfg.Apps {
			known = append(known, appEnvPrefix(app.Name)+key.suffix)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.env)) {
		if name == "RECALL_CONFIG" || fromServiceLinks(name, l.env[name]) {
			continue
		}
		if l.sources.SkipAppSecrets && strings.HasPrefix(name, "RECALL_APPS_") {
			continue // this command needs no app, so the file that names the apps may well be left out
		}
		hint := "; unset it, or see the list of variables in docs/configuration.md"
		if near := Nearest(name, known); near != "" {
			hint = "; did you mean " + near + "?"
		} else if strings.HasPrefix(name, "RECALL_APPS_") {
			hint = "; no app of that name has such a key"
		}
		l.problem(name, "", "", "is not a variable of recall%s", hint)
	}
}

// RequireApps returns Problems unless there is an app and each has its credentials.
func (c *Config) RequireApps() error {
	if len(c.Apps) == 0 {
		return Problems{{Path: "apps", Message: "is empty; set RECALL_APP_KEY and RECALL_APP_SECRET, or list the apps in a configuration file"}}
	}
	var problems Problems
	for i, app := range c.Apps {
		where := func(suffix string) string {
			if c.sources[appPath(i, "appKey")] == singleAppEnv("APP_KEY") {
				return singleAppEnv(suffix)
			}
			return appEnvPrefix(app.Name) + suffix
		}
		if app.AppSecret == "" {
			problems = append(problems, Problem{Path: appPath(i, "appSecret"), Message: fmt.Sprintf(
				"of app %q is missing; set %s, or appSecretFile to a file that holds it", app.Name, where("APP_SECRET"))})
		}
		if app.Kind == upstream.KindThirdParty && app.SuiteTicketFile == "" && app.SuiteTicket == "" {
			problems = append(problems, Problem{Path: appPath(i, "suiteTicketFile"), Message: fmt.Sprintf(
				"of app %q is missing; set it, or %s, to a file that holds the newest suite ticket", app.Name, where("SUITE_TICKET_FILE"))})
		}
	}
	return problems.Err()
}

// explainRead says in words why a file could not be read.
func explainRead(err error) string {
	var pathErr *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "no such file"
	case errors.Is(err, fs.ErrPermission):
		return "this user may not read it"
	case errors.As(err, &pathErr):
		return pathErr.Err.Error()
	default:
		return err.Error()
	}
}
