package config

import (
	"fmt"
	"maps"
	"slices"
)

// appPath is the path of a key of the i-th app.
func appPath(i int, key string) string { return fmt.Sprintf("apps[%d].%s", i, key) }

// readApps reads the apps of the file and the environment's words on them, or makes the one app of RECALL_APP_KEY.
func (l *loader) readApps() {
	for i, item := range l.fileApps {
		section, ok := item.(map[string]any)
		if !ok {
			l.problem(l.fileLabel(), fmt.Sprintf("apps[%d]", i), "", "is not a section; write name:, appKey: and so on below the hyphen")
			section = nil
		}
		app := App{Rate: DefaultRate, MonthlyCalls: DefaultMonthlyCalls}
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
	app := App{Name: DefaultAppName, Rate: DefaultRate, MonthlyCalls: DefaultMonthlyCalls}
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
		switch {
		case key == "appSecret":
			l.problem(name, path, "", "a secret does not belong in this file; set %sAPP_SECRET, or appSecretFile to a file that holds it", appEnvHint(section))
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

// appFromEnv lets the environment have its say on an app, and reads the app's secret.
func (l *loader) appFromEnv(i int, app *App, nameOf func(suffix string) string) {
	leaves := map[string]leaf{}
	for _, leaf := range app.leaves() {
		leaves[leaf.path] = leaf
	}
	inline, inlineEnv := "", ""
	for _, key := range appEnvKeys {
		name := nameOf(key.suffix)
		value := l.env[name]
		delete(l.env, name)
		if value == "" {
			continue
		}
		path := appPath(i, key.key)
		if key.key == "appSecret" {
			inline, inlineEnv = value, name
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
	path, filePath := appPath(i, "appSecret"), appPath(i, "appSecretFile")
	target := secretTarget{&app.AppSecret, &app.AppSecretFile}
	switch {
	case inline != "":
		if l.cfg.sources[filePath] == nameOf("APP_SECRET_FILE") {
			l.problem(inlineEnv, path, "", "is set, and so is %s; unset one of them", nameOf("APP_SECRET_FILE"))
		}
		app.AppSecretFile = ""
		l.setSecret(target.secret, inline, inlineEnv, path)
	case app.AppSecretFile != "":
		l.secretFile(target, l.cfg.sources[filePath], filePath)
	}
}
