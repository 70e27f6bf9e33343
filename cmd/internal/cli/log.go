package cli

import (
	"io"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"dingrecall/config"
)

// newLogger returns the program's logger, writing to w: lines for a person on a terminal, JSON elsewhere, unless the configuration
// says. Its clock is the Env's. Stack traces are off: an operator can do nothing with them, and they bury the message.
func (a *app) newLogger(cfg config.Log, w io.Writer) *zap.Logger {
	level, err := zapcore.ParseLevel(cfg.Level)
	if err != nil {
		level = zapcore.InfoLevel
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.TimeKey = "time"
	encoding.MessageKey = "message"
	encoding.EncodeDuration = zapcore.StringDurationEncoder
	encoding.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	encoder := zapcore.NewJSONEncoder
	if cfg.Format == "console" || (cfg.Format != "json" && a.IsTerminal(w)) {
		encoding.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoding.EncodeLevel = zapcore.CapitalLevelEncoder
		encoding.ConsoleSeparator = " "
		encoder = zapcore.NewConsoleEncoder
	}
	core := zapcore.NewCore(encoder(encoding), zapcore.Lock(zapcore.AddSync(w)), level)
	return zap.New(core, zap.WithClock(logClock(a.Now)), zap.ErrorOutput(zapcore.AddSync(a.Err)))
}

// logClock gives zap the Env's clock.
type logClock func() time.Time

func (c logClock) Now() time.Time                       { return c() }
func (logClock) NewTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }
