package config

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
)

// maxFileBytes bounds the configuration file: a bigger one is some other file.
const maxFileBytes = 1 << 20

// readFile adds the configuration file.
func (l *loader) readFile() {
	name := l.sources.File
	if name == "" {
		return
	}
	data, err := l.sources.ReadFile(name)
	if err != nil {
		l.problem(name, "", "", "cannot read the configuration: %s; name another with --config", explainRead(err))
		return
	}
	tree, line, err := parseYAML(data)
	if err != nil {
		source := name
		if line > 0 {
			source = fmt.Sprintf("%s:%d", name, line)
		}
		l.problem(source, "", "", "%v", err)
		return
	}
	values := map[string]any{}
	l.walk("", tree, values)
	l.add(values, func(string) string { return name })
}

// walk flattens the sections of the file into values by path, and reports what is not in the schema.
func (l *loader) walk(prefix string, section map[string]any, values map[string]any) {
	leaves, sections := map[string]bool{}, map[string]bool{}
	for _, leaf := range l.cfg.leaves() {
		leaves[leaf.path] = true
		head, _, _ := strings.Cut(leaf.path, ".")
		sections[head] = true
	}
	name := l.fileLabel()
	for _, key := range slices.Sorted(maps.Keys(section)) {
		path, value := prefix+key, section[key]
		switch {
		case strings.Contains(key, "."):
			l.problem(name, quoteKey(path), "", "is not a key; nest it: the part before the dot is a section")
		case leaves[path]:
			if value == nil {
				l.problem(name, path, "", "has no value; give it one or leave the line out")
				continue
			}
			values[path] = value
		case path == "apps":
			list, ok := value.([]any)
			if !ok && value != nil {
				l.problem(name, path, "", "is not a list; begin each app with a hyphen")
			}
			l.fileApps = list
		case prefix == "" && sections[key]:
			sub, ok := value.(map[string]any)
			if !ok && value != nil {
				// The value is not shown: with broken indentation it could be anything.
				l.problem(name, path, "", "is a section; put its keys below it, indented")
			}
			l.walk(key+".", sub, values)
		default:
			l.unknownKey(path, leaves, sections)
		}
	}
}

// unknownKey reports a key that is not in the schema, never its value.
func (l *loader) unknownKey(path string, leaves, sections map[string]bool) {
	for _, place := range secretPlaces {
		if path == place.path {
			l.problem(l.fileLabel(), path, "", "a secret does not belong in this file; set %s, or %s to a file that holds it", place.env, place.fileKey)
			return
		}
	}
	known := []string{"apps"}
	if strings.Contains(path, ".") {
		known = slices.Sorted(maps.Keys(leaves))
	} else {
		known = append(known, slices.Sorted(maps.Keys(sections))...)
	}
	l.problem(l.fileLabel(), quoteKey(path), "", "is not a key of the configuration%s", didYouMean(path, known))
}

// quoteKey shows a key that may be anything: long or strange ones are cut and quoted.
func quoteKey(path string) string {
	if len(path) <= 64 && plainKey.MatchString(path) {
		return path
	}
	return quote(path)
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_.\[\]-]+$`)

func didYouMean(word string, known []string) string {
	if near := Nearest(word, known); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// expandRedisURL replaces a URL in redis.addr by the keys that it stands for.
func (l *loader) expandRedisURL(values map[string]any, source string) {
	const path = "redis.addr"
	text := ""
	switch v := values[path].(type) {
	case string:
		text = v
	case textValue:
		text = string(v)
	}
	if !strings.Contains(text, "://") {
		return
	}
	refuse := func(message string) {
		// Not shown: whoever writes a URL may have put the password into it.
		l.problem(source, path, "", "%s", message)
		delete(values, path)
	}
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "redis" && u.Scheme != "rediss") || u.Hostname() == "" {
		refuse("is not a good URL; write redis://host:port/db, or rediss:// for TLS")
		return
	}
	if _, ok := u.User.Password(); ok {
		refuse("holds a password; take it out and set RECALL_REDIS_PASSWORD, or redis.passwordFile to a file that holds it")
		return
	}
	if u.RawQuery != "" || u.Fragment != "" {
		refuse("has a query or a fragment; write redis://host:port/db and set the rest by its own key")
		return
	}
	parts := map[string]any{"redis.tls": u.Scheme == "rediss"}
	if user := u.User.Username(); user != "" {
		parts["redis.username"] = user
	}
	if db := strings.Trim(u.Path, "/"); db != "" {
		n, err := strconv.Atoi(db)
		if err != nil {
			refuse("names no good database; write its number after the host, like redis://host:port/2")
			return
		}
		parts["redis.db"] = n
	}
	for _, key := range slices.Sorted(maps.Keys(parts)) {
		if said, ok := values[key]; ok && fmt.Sprint(said) != fmt.Sprint(parts[key]) {
			refuse(fmt.Sprintf("and %s disagree; say it in one place", key))
			return
		}
		values[key] = parts[key]
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	host := u.Hostname()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	values[path] = host + ":" + port
}

// parseYAML reads one YAML document. Its errors are rephrased so that no content of the file is in them, only the names of keys;
// line is 0 where it is not known.
func parseYAML(data []byte) (tree map[string]any, line int, err error) {
	if len(data) > maxFileBytes {
		return nil, 0, fmt.Errorf("is bigger than %d bytes; is this the right file?", maxFileBytes)
	}
	if n := secondDocument(data); n > 0 {
		return nil, n, errors.New("a second YAML document begins here; put everything into one")
	}
	k := koanf.New(".")
	if err := k.Load(rawbytes.Provider(data), yaml.Parser()); err != nil {
		line, err := explainYAML(err)
		return nil, line, err
	}
	return k.Raw(), 0, nil
}

var (
	yamlLine      = regexp.MustCompile(`line (\d+)`)
	yamlDuplicate = regexp.MustCompile(`line (\d+): mapping key "([A-Za-z0-9_.-]{1,64})" already defined at line (\d+)`)
	yamlSafe      = regexp.MustCompile(`^yaml: (?:line \d+: )?([a-z ,-]+)$`)
)

func explainYAML(err error) (line int, explained error) {
	text := err.Error()
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
	}
	switch m := yamlDuplicate.FindStringSubmatch(text); {
	case m != nil:
		return line, fmt.Errorf("the key %s is already set in line %s; keep one of them", m[2], m[3])
	case strings.Contains(text, "already defined at line"):
		return line, errors.New("a key is set twice; keep one of them")
	case strings.Contains(text, "found character that cannot start any token"):
		return line, errors.New("this is not YAML: a character that cannot stand here; indent with spaces, not tabs, and put odd values in quotes")
	case strings.Contains(text, "into map[string]"):
		return line, errors.New("this is not a configuration; its top level must be sections like redis: and worker:")
	}
	if m := yamlSafe.FindStringSubmatch(strings.SplitN(text, "\n", 2)[0]); m != nil {
		return line, fmt.Errorf("this is not YAML: %s; look for a missing colon, quote or indentation here or just above", m[1])
	}
	return line, errors.New("this is not YAML; look for a missing colon, quote or indentation here or just above")
}

// secondDocument returns the line of a --- that follows content, 0 if there is none. The parser would silently read the first
// document only.
func secondDocument(data []byte) int {
	content, n := false, 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimRight(line, " \t\r\n")
		switch {
		case line == "---" || strings.HasPrefix(line, "--- "):
			if content {
				return n
			}
			content = line != "---"
		case line != "" && !strings.HasPrefix(strings.TrimLeft(line, " \t"), "#") && !strings.HasPrefix(line, "%"):
			content = true
		}
	}
	return 0
}
