package keystore
import ("testing";"github.com/redis/go-redis/v9";"os")
func BenchmarkZZ(b *testing.B){ rdb:=redis.NewClient(&redis.Options{Addr:"127.0.0.1:7799"}); defer rdb.Close(); rdb.FlushAll(b.Context()); _ = os.Stdout; benchAdmit(b, rdb) }
func BenchmarkZD(b *testing.B){ rdb:=redis.NewClient(&redis.Options{Addr:"127.0.0.1:7799"}); defer rdb.Close(); rdb.FlushAll(b.Context()); benchDrain(b, rdb) }
