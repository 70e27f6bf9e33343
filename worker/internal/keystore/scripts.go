package keystore

import (
	"embed"
	"io/fs"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed scripts
var embedded embed.FS

// sources is where the scripts are read from; only mutant_test.go puts another in its place.
var sources fs.FS = embedded

var (
	base, library = readLibrary()

	admitScript    = script("admit")
	attachScript   = script("attach")
	settleScript   = script("settle")
	wakeScript     = script("wake")
	permitScript   = script("permit")
	takeoverScript = script("takeover")
	cancelScript   = script("cancel")
	releaseScript  = script("release")
	lookupScript   = script("lookup")
	verifyScript   = script("verify")
	spendScript    = script("spend")
)

// readLibrary joins the files that all scripts share, in the order of their names: the first one, and the others.
func readLibrary() (base, rest string) {
	files, err := fs.Glob(sources, "scripts/lib/*.lua")
	if err != nil || len(files) < 2 {
		panic("keystore: the embedded scripts are missing")
	}
	var b strings.Builder
	for _, f := range files[1:] {
		b.WriteString(mustRead(f))
		b.WriteByte('\n')
	}
	return mustRead(files[0]), b.String()
}

// script puts the library in front of a script. All but its first file stands in a function of its own: what the first file
// defines, nearly every function uses, and Lua makes a function that uses a local of its surroundings the slower the more
// locals these have. That halves what each run spends before its first step.
func script(name string) *redis.Script {
	return redis.NewScript(base + "\nreturn (function()\n" + library + mustRead("scripts/"+name+".lua") + "\nend)()\n")
}

// mustRead reads an embedded file: one that is missing is a broken build, found by the first test.
func mustRead(path string) string {
	b, err := fs.ReadFile(sources, path)
	if err != nil {
		panic("keystore: " + err.Error())
	}
	return string(b)
}
