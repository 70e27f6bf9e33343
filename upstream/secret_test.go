package upstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestSecretNeverPrints(t *testing.T) {
	t.Parallel()
	const secret = Secret(testSecret)
	holder := struct {
		Name   string
		Secret Secret
		Token  Token
		ByName map[string]*Secret
	}{"app", secret, Token{Value: secret, ExpiresAt: time.Now()}, map[string]*Secret{"app": ptr(secret)}}

	outputs := map[string]string{"String": secret.String(), "concatenation": fmt.Sprint("a", secret, "b")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.4s", "%T%v"} {
		args := []any{secret}
		if verb == "%T%v" {
			args = []any{secret, secret}
		}
		outputs[verb] = fmt.Sprintf(verb, args...)
		outputs["holder "+verb] = fmt.Sprintf(verb, append(args[:len(args)-1:len(args)-1], holder)...)
	}
	encoded, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	outputs["json"] = string(encoded)
	var logged bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&logged, nil), slog.NewJSONHandler(&logged, nil)} {
		slog.New(handler).Info("m", "secret", secret, "holder", holder)
	}
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&logged), zap.DebugLevel)
	zap.New(core).Info("m", zap.Any("secret", secret), zap.Stringer("s", secret), zap.Any("holder", holder), zap.Reflect("r", holder))
	outputs["logs"] = logged.String()

	hexed := fmt.Sprintf("%x", testSecret)
	for name, output := range outputs {
		if strings.Contains(output, testSecret[4:16]) || strings.Contains(strings.ToLower(output), hexed[:16]) {
			t.Errorf("%s prints the secret: %s", name, output)
		}
		if !strings.Contains(output, "redacted") {
			t.Errorf("%s does not say that something is redacted: %s", name, output)
		}
	}
	if secret.Reveal() != testSecret {
		t.Errorf("Reveal() = %q, want the secret", secret.Reveal())
	}
	var read Secret
	if err := json.Unmarshal([]byte(`"plain"`), &read); err != nil || read.Reveal() != "plain" {
		t.Errorf("a secret reads from JSON as %q, %v; want plain", read.Reveal(), err)
	}
}

func ptr[T any](v T) *T { return &v }
