package keystore

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// mutantDir names a directory with a folder "scripts" whose files the tests of this process are to use in place of the embedded ones. It
// is for the command in mutate, which breaks the scripts on purpose to see whether a test fails.
const mutantDir = "KEYSTORE_SCRIPTS"

// doesNotLoad is the exit status where a script of that directory is no Lua.
const doesNotLoad = 3

func useMutant() error {
	dir := os.Getenv(mutantDir)
	if dir == "" {
		return nil
	}
	sources = os.DirFS(dir)
	base, library = readLibrary()
	m, err := miniredis.Run()
	if err != nil {
		return err
	}
	defer m.Close()
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	defer rdb.Close()
	var errs []error
	for name, s := range map[string]**redis.Script{"admit": &admitScript, "attach": &attachScript, "settle": &settleScript, "wake": &wakeScript,
		"permit": &permitScript, "takeover": &takeoverScript, "cancel": &cancelScript, "release": &releaseScript, "lookup": &lookupScript,
		"verify": &verifyScript, "spend": &spendScript} {
		*s = script(name)
		if err := (*s).Load(context.Background(), rdb).Err(); err != nil {
			errs = append(errs, fmt.Errorf("%s.lua: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
