package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

func newWorld(srv *server, svc *service, n, robots int) *world {
	w := &world{srv: srv, rdb: srv.rdb, svc: svc}
	for r := range robots {
		w.robots = append(w.robots, fmt.Sprintf("dingspeed%07d", r))
		var keys []string
		for i := r; i < n; i += robots {
			keys = append(keys, key(i))
		}
		w.keys = append(w.keys, keys)
		w.total += len(keys)
	}
	return w
}

// key makes a key as the service's are: 44 characters of Base64.
func key(i int) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(i))
	sum := sha256.Sum256(b[:])
	return base64.StdEncoding.EncodeToString(sum[:])
}
