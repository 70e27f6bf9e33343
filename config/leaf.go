package config

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// textValue is a value from the environment or a flag: always text, to be read as whatever type the key has. A string in the
// file, in contrast, is only ever a string: there a quoted number is a mistake.
type textValue string

// leaf is one key of the schema: how to read it, judge it and print it. set and check return a complaint, "" for none.
type leaf struct {
	path  string
	set   func(v any) string
	check func() string
	// text is the value as YAML.
	text func() string
}

// judge runs check, where there is one.
func (l leaf) judge() string {
	if l.check == nil {
		return ""
	}
	return l.check()
}

func stringLeaf(path string, target *string, check func(string) string) leaf {
	l := leaf{path: path, text: func() string { return strconv.Quote(*target) }}
	l.set = func(v any) string {
		switch v := v.(type) {
		case textValue:
			*target = string(v)
		case string:
			*target = v
		default:
			return "is not text; put it in quotes"
		}
		return ""
	}
	if check != nil {
		l.check = func() string { return check(*target) }
	}
	return l
}

func boolLeaf(path string, target *bool) leaf {
	return leaf{path: path, text: func() string { return strconv.FormatBool(*target) }, set: func(v any) string {
		switch v := v.(type) {
		case bool:
			*target = v
			return ""
		case textValue:
			if v == "true" || v == "false" {
				*target = v == "true"
				return ""
			}
		}
		return "is not a yes or no; write true or false"
	}}
}

func durationLeaf(path string, target *time.Duration, lo, hi time.Duration) leaf {
	return leaf{
		path: path,
		text: func() string { return FormatDuration(*target) },
		set: func(v any) string {
			const how = "a duration; write it with its unit, like 500ms, 10s, 5m or 48h"
			var text string
			switch v := v.(type) {
			case string:
				text = v
			case textValue:
				text = string(v)
			case int:
				if v != 0 {
					return "has no unit; write it like " + strconv.Itoa(v) + "s"
				}
				text = "0"
			default:
				return "is not " + how
			}
			d, err := time.ParseDuration(text)
			if err != nil {
				return "is not " + how
			}
			*target = d
			return ""
		},
		check: func() string { return outside(*target, lo, hi, FormatDuration) },
	}
}

// intLeaf reads whole numbers into an int or int64.
func intLeaf[T int | int64](path string, target *T, lo, hi T) leaf {
	show := func(n T) string { return strconv.FormatInt(int64(n), 10) }
	return leaf{
		path: path,
		text: func() string { return show(*target) },
		set: func(v any) string {
			switch v := v.(type) {
			case int:
				*target = T(v)
				return ""
			case textValue:
				n, err := strconv.ParseInt(string(v), 10, strconv.IntSize)
				if err == nil {
					*target = T(n)
					return ""
				}
			}
			return fmt.Sprintf("is not a whole number; choose one from %s to %s", show(lo), show(hi))
		},
		check: func() string { return outside(*target, lo, hi, show) },
	}
}

func floatLeaf(path string, target *float64, lo, hi float64) leaf {
	show := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	return leaf{
		path: path,
		text: func() string { return show(*target) },
		set: func(v any) string {
			switch v := v.(type) {
			case int:
				*target = float64(v)
				return ""
			case float64:
				*target = v
				return ""
			case textValue:
				f, err := strconv.ParseFloat(string(v), 64)
				if err == nil {
					*target = f
					return ""
				}
			}
			return fmt.Sprintf("is not a number; choose one from %s to %s", show(lo), show(hi))
		},
		check: func() string {
			if math.IsNaN(*target) {
				return fmt.Sprintf("NaN is not a number; choose one from %s to %s", show(lo), show(hi))
			}
			return outside(*target, lo, hi, show)
		},
	}
}

// listLeaf reads a list of strings; in the environment, separated by commas.
func listLeaf(path string, target *[]string, check func([]string) string) leaf {
	return leaf{
		path: path,
		text: func() string {
			quoted := make([]string, len(*target))
			for i, s := range *target {
				quoted[i] = strconv.Quote(s)
			}
			return "[" + strings.Join(quoted, ", ") + "]"
		},
		set: func(v any) string {
			switch v := v.(type) {
			case textValue:
				*target = nil
				for part := range strings.SplitSeq(string(v), ",") {
					*target = append(*target, strings.TrimSpace(part))
				}
				return ""
			case []any:
				list := make([]string, len(v))
				for i, item := range v {
					s, ok := item.(string)
					if !ok {
						return fmt.Sprintf("has as its item %d %s, which is not text; put it in quotes", i+1, quote(item))
					}
					list[i] = s
				}
				*target = list
				return ""
			}
			return `is not a list; write it like ["one", "two"]`
		},
		check: func() string { return check(*target) },
	}
}

// outside complains of a value that is not from lo to hi.
func outside[T cmp.Ordered](v, lo, hi T, show func(T) string) string {
	if v >= lo && v <= hi {
		return ""
	}
	return fmt.Sprintf("%s is out of range; choose from %s to %s", show(v), show(lo), show(hi))
}

// FormatDuration prints a duration as one would write it in the file: 48h rather than 48h0m0s.
func FormatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
