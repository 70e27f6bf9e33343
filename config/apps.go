package config

import (
	"fmt"
	"maps"
	"slices"

	"dingrecall/upstream"
)

// appPath is the path of a key of the i-th app.
func appPath(i int, key string) string { return fmt.Sprintf("apps[%d].%s", i, key) }

// newApp is an app of which nothing is said yet.
func newApp(name string) App {
	return App{Name: name, Kind: upstream.KindInternal, Rate: DefaultRate, BudgetZone: DefaultBudgetZone}
}

// readApps reads the apps of the file and the environment's words on them, or makes the one app of RECALL_APP_KEY.
func (l *loader) readApps() {
	for i, item := range l.fileApps {
		section, ok := item.(map[string]any)
		if !ok {
			l.problem(l.fileLabel(), fmt.Sprintf("apps[%d]", i), "", "is not a section; write name:, appKey: and so on below the hyphen")
			section = nil
		}
		app := newApp("")
		l.appFromFile(i, section, &app)
		l.appFromEnv(i, &app, func(suffix string) string { return appEnvPrefix(app.Name) + suffix })
		l.cfg.Apps = append(l.cfg.Apps, app)
	}
	l.singleApp()
	if len(l.cfg.Apps) == 1 && l.cfg.sources[appPath(0, "robots")] == "" {
		l.cfg.Apps[0].Robots = []string{AnyRobot}
	}
}

// singleApp makes the app that is described by RECALL_APP_KEY and its like alone.
func (l *loader) singleApp() {
	var given []string
	for _, key := range appEnvKeys {
		if l.env[singleAppEnv(key.suffix)] != "" {
			given = append(given, singleAppEnv(key.suffix))
		}
	}
	if len(given) == 0 || len(l.fileApps) > 0 {
		for _, name := range given {
			l.problem(name, "", "", "is for a set-up without apps in the file; for one of those set RECALL_APPS_<NAME>_... instead")
			delete(l.env, name)
		}
		for _, key := range appEnvKeys {
			if l.env[singleAppEnv(key.suffix)] == "" {
				delete(l.env, singleAppEnv(key.suffix))
			}
		}
		return
	}
	app := newApp(DefaultAppName)
	l.cfg.sources[appPath(0, "name")] = given[0]
	l.appFromEnv(0, &app, singleAppEnv)
	if app.AppKey == "" && !l.problems.has(appPath(0, "appKey")) {
		l.problem(given[0], appPath(0, "appKey"), "", "is missing; set %s too", singleAppEnv("APP_KEY"))
	}
	l.cfg.Apps = append(l.cfg.Apps, app)
}

// appFromFile reads one app of the file.
func (l *loader) appFromFile(i int, section map[string]any, app *App) {
	leaves := map[string]leaf{}
	for _, leaf := range app.leaves() {
		leaves[leaf.path] = leaf
	}
	name := l.fileLabel()
	for _, key := range slices.Sorted(maps.Keys(section)) {
		path, value := appPath(i, key), section[key]
		leaf, known := leaves[key]
		secret := slices.IndexFunc(appSecrets, func(s appSecret) bool { return s.key == key })
		switch {
		case secret >= 0:
			l.problem(name, path, "", "a secret does not belong in this file; set %s%s, or %s to a file that holds it", appEnvHint(section),
				appSecrets[secret].suffix, appSecrets[secret].fileKey)
		case !known:
			l.problem(name, quoteKey(path), "", "is not a key of an app%s", didYouMean(key, slices.Sorted(maps.Keys(leaves))))
		case value == nil:
			l.problem(name, path, "", "has no value; give it one or leave the line out")
		default:
			l.cfg.sources[path] = name
			if complaint := leaf.set(value); complaint != "" {
				l.problem(name, path, quote(value), "%s", complaint)
			}
		}
	}
}

// appEnvHint is the prefix of the variables of an app that is still being read.
func appEnvHint(section map[string]any) string {
	if name, ok := section["name"].(string); ok && appName.MatchString(name) {
		return appEnvPrefix(name)
	}
	return "RECALL_APPS_<NAME>_"
}

// appFromEnv lets the environment have its say on an app, and reads the app's secrets.
func (l *loader) appFromEnv(i int, app *App, nameOf func(suffix string) string) {
	leaves := map[string]leaf{}
	for _, leaf := range app.leaves() {
		leaves[leaf.path] = leaf
	}
	inline := map[string]string{} // secrets, by key
	for _, key := range appEnvKeys {
		name := nameOf(key.suffix)
		value := l.env[name]
		delete(l.env, name)
		if value == "" {
			continue
		}
		path := appPath(i, key.key)
		if slices.ContainsFunc(appSecrets, func(s appSecret) bool { return s.key == key.key }) {
			inline[key.key] = value
			continue
		}
		l.cfg.sources[path] = name
		if complaint := leaves[key.key].set(textValue(value)); complaint != "" {
			l.problem(name, path, quote(textValue(value)), "%s", complaint)
		}
	}
	if l.sources.SkipAppSecrets {
		return
	}
	targets := map[string]secretTarget{"appSecret": {&app.AppSecret, &app.AppSecretFile}, "suiteTicket": {&app.SuiteTicket, &app.SuiteTicketFile}}
	for _, secret := range appSecrets {
		l.appSecret(i, secret, targets[secret.key], inline[secret.key], nameOf)
	}
	l.warnOfTicket(i, app)
}

// appSecret reads one secret of an app: from its variable, whose value is inline, or else from its file. The suite ticket's file is only tried:
// it is read for each request.
func (l *loader) appSecret(i int, s appSecret, target secretTarget, inline string, nameOf func(suffix string) string) {
	path, filePath, env, fileEnv := appPath(i, s.key), appPath(i, s.fileKey), nameOf(s.suffix), nameOf(s.suffix+"_FILE")
	switch {
	case inline != "":
		if l.cfg.sources[filePath] == fileEnv {
			l.problem(env, path, "", "is set, and so is %s; unset one of them", fileEnv)
		}
		*target.file = ""
		l.cfg.sources[path] = env
		l.setSecret(target.secret, inline, env, path)
	case *target.file == "":
	case s.key == "suiteTicket":
		l.tryTicketFile(target, l.cfg.sources[filePath], filePath)
	default:
		l.secretFile(target, l.cfg.sources[filePath], filePath)
	}
}
