package keystore

import (
	"embed"
	"io/fs"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed scripts
var sources embed.FS

var (
	library = readLibrary()

	admitScript    = script("admit")
	attachScript   = script("attach")
	settleScript   = script("settle")
	wakeScript     = script("wake")
	permitScript   = script("permit")
	takeoverScript = script("takeover")
	cancelScript   = script("cancel")
	releaseScript  = script("release")
	lookupScript   = script("lookup")
)

// readLibrary joins the files that all scripts share, in the order of their names.
func readLibrary() string {
	files, err := fs.Glob(sources, "scripts/lib/*.lua")
	if err != nil || len(files) == 0 {
		panic("keystore: the embedded scripts are missing")
	}
	var b strings.Builder
	for _, f := range files {
		b.WriteString(mustRead(f))
		b.WriteByte('\n')
	}
	return b.String()
}

func script(name string) *redis.Script {
	return redis.NewScript(library + mustRead("scripts/"+name+".lua"))
}

// mustRead reads an embedded file: one that is missing is a broken build, found by the first test.
func mustRead(path string) string {
	b, err := sources.ReadFile(path)
	if err != nil {
		panic("keystore: " + err.Error())
	}
	return string(b)
}
