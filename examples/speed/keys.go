package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

func newWorld(srv *server, svc *service, n, robots int) *world {
	return &world{srv: srv, rdb: srv.rdb, svc: svc, robots: robotCodes("speed", robots), keys: deal(0, n, robots), total: n}
}

// deal deals n keys out to robots in turn, from the number from on.
func deal(from, n, robots int) [][]string {
	keys := make([][]string, robots)
	for i := range n {
		keys[i%robots] = append(keys[i%robots], key(from+i))
	}
	return keys
}

// key makes a key as the service's are: 44 characters of Base64.
func key(i int) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(i))
	sum := sha256.Sum256(b[:])
	return base64.StdEncoding.EncodeToString(sum[:])
}
