package cli

import (
	"reflect"
	"testing"

	"dingrecall/config"
	"dingrecall/upstream"
	"dingrecall/worker"
)

// TestWorkerConfigIsWhole: every setting of the worker comes from the configuration.
func TestWorkerConfigIsWhole(t *testing.T) {
	t.Parallel()
	cfg := config.Defaults()
	// Every number gets a value of its own, so that none can stand in for another.
	from := reflect.ValueOf(&cfg.Worker).Elem()
	for i := range from.NumField() {
		from.Field(i).SetInt(int64(1000 + i))
	}
	cfg.Redis.TokenKey = "0123456789abcdef0123456789abcdef"
	cfg.Apps = []config.App{{Name: "main", Kind: upstream.KindUnified, AppKey: "k", AppSecret: "s", CorpID: "c", Rate: 3, MonthlyCalls: 4, Robots: []string{"r"}}}
	got := workerConfig(cfg)
	to := reflect.ValueOf(got)
	for i := range from.NumField() {
		name := from.Type().Field(i).Name
		if f := to.FieldByName(name); !f.IsValid() || f.Int() != int64(1000+i) {
			t.Errorf("%s is lost on the way", name)
		}
	}
	for i := range to.NumField() {
		name := to.Type().Field(i).Name
		if to.Field(i).IsZero() && name != "AdmitAtOnce" { // which is no affair of the configuration: run sets it where Redis is in the process
			t.Errorf("%s has no value", name)
		}
	}
	want := worker.App{Name: "main", Rate: 3, MonthlyCalls: 4, Robots: []string{"r"}}
	want.Credentials = upstream.Credentials{Kind: upstream.KindUnified, AppKey: "k", AppSecret: "s", CorpID: "c"}
	if len(got.Apps) != 1 || !reflect.DeepEqual(got.Apps[0], want) {
		t.Errorf("%+v", got.Apps)
	}
}
