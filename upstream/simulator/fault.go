package simulator

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// Fault is something that goes wrong on purpose. The list is closed: Faults has all of them with what they do.
type Fault string

// The faults. The first group comes before the service has seen the call: nothing is applied, nothing counts against the month.
const (
	FaultInvalidToken Fault = "invalid-token"
	FaultPermission   Fault = "permission"
	FaultIPWhitelist  Fault = "ip-whitelist"
	FaultIPBan200     Fault = "ip-ban-200"
	FaultIPBan403     Fault = "ip-ban-403"
	FaultIPBanHTML    Fault = "ip-ban-html"
	FaultQPS          Fault = "qps"
	FaultQPM          Fault = "qpm"
	FaultAPICount     Fault = "api-count"
	FaultBusy         Fault = "busy-429"
	FaultRetryAfter   Fault = "retry-after"
	FaultHTML502      Fault = "html-502"
	FaultHTML200      Fault = "html-200"
	FaultRedirect     Fault = "redirect"
	FaultRedirectHost Fault = "redirect-host"
	FaultBare401      Fault = "bare-401"
	FaultCut          Fault = "cut"

	// The second group is the service failing: nothing is applied, the call counts.
	FaultSystemError   Fault = "system-error"
	FaultInternalError Fault = "internal-error"
	FaultServiceBusy   Fault = "service-busy"
	FaultTimeout504    Fault = "timeout-504"
	FaultBare503       Fault = "bare-503"
	FaultError200      Fault = "error-200"
	FaultRobotUnknown  Fault = "robot-unknown"
	FaultNotSender     Fault = "not-sender"
	FaultParamInvalid  Fault = "param-invalid"
	FaultNoKeys        Fault = "no-keys"
	FaultOverMax       Fault = "over-max"
	FaultKeyInvalid    Fault = "key-invalid"
	FaultKeyExpired    Fault = "key-expired"
	FaultUnknownCode   Fault = "unknown-code"
	FaultEmpty200      Fault = "empty-200"
	FaultNoLists       Fault = "no-lists"
	FaultNullLists     Fault = "null-lists"
	FaultHang          Fault = "hang"

	// The third group spoils the answer to a call that was applied.
	FaultLostAnswer  Fault = "lost-answer"
	FaultTruncated   Fault = "truncated"
	FaultCutBody     Fault = "cut-body"
	FaultHuge        Fault = "huge"
	FaultSlow        Fault = "slow"
	FaultDrip        Fault = "drip"
	FaultGzip        Fault = "gzip"
	FaultGzipRubbish Fault = "gzip-rubbish"
	FaultContentType Fault = "content-type"
	FaultMissingKeys Fault = "missing-keys"
	FaultBothLists   Fault = "both-lists"
	FaultForeignKeys Fault = "foreign-keys"
	FaultRepeatedKey Fault = "repeated-key"
	FaultEmptyLists  Fault = "empty-lists"
	FaultFailedList  Fault = "failed-list"
	FaultNested      Fault = "nested-reasons"

	// The fourth group makes keys fail that are good: the first of the call, or all.
	FaultUnknownReason   Fault = "unknown-reason"
	FaultRobotReason     Fault = "robot-reason"
	FaultSystemReason    Fault = "system-error-reason"
	FaultQPSReason       Fault = "qps-reason"
	FaultNotRevokeReason Fault = "not-revoke-reason"
	FaultNotRevoke       Fault = "not-revoke"
	FaultNotRevokeLists  Fault = "not-revoke-lists"
)

// stage is when a fault strikes.
type stage uint8

const (
	stageGateway stage = iota + 1 // before the service
	stageService                  // instead of the service
	stageLists                    // in the lists of a recall's answer
	stageWire                     // on the way back
)

// FaultInfo describes a fault.
type FaultInfo struct {
	Fault Fault
	About string // what it does, for people
	stage stage
}

var faultInfos = []FaultInfo{
	{FaultInvalidToken, "400 InvalidAuthentication, though the token is good", stageGateway},
	{FaultPermission, "403 AccessTokenPermissionDenied with the scope that is missing", stageGateway},
	{FaultIPWhitelist, "403 IpNotInWhiteList", stageGateway},
	{FaultIPBan200, "200 with the JSON of an IP ban (status 1111)", stageGateway},
	{FaultIPBan403, "403 with the JSON of an IP ban (status 1111)", stageGateway},
	{FaultIPBanHTML, "403 with an HTML page that refuses the IP address", stageGateway},
	{FaultQPS, "403 throttled per second", stageGateway},
	{FaultQPM, "403 throttled per minute", stageGateway},
	{FaultAPICount, "403 ApiCountLimitForOrg: the month's calls are spent", stageGateway},
	{FaultBusy, "429 system.busy", stageGateway},
	{FaultRetryAfter, "429 system.busy with Retry-After: 1", stageGateway},
	{FaultHTML502, "502 with an HTML page", stageGateway},
	{FaultHTML200, "200 with an HTML page; nothing was done", stageGateway},
	{FaultRedirect, "307 to another path", stageGateway},
	{FaultRedirectHost, "302 to another host", stageGateway},
	{FaultBare401, "401 without a body", stageGateway},
	{FaultCut, "the connection is cut before the call is applied", stageGateway},
	{FaultSystemError, "500 system.error", stageService},
	{FaultInternalError, "500 internalError", stageService},
	{FaultServiceBusy, "503 serviceBusy", stageService},
	{FaultTimeout504, "504 service.timeout; nothing was done", stageService},
	{FaultBare503, "503 without a body; nothing was done", stageService},
	{FaultError200, "200 with the body of a system.error", stageService},
	{FaultRobotUnknown, "400 invalidParameter.robotCode, though the robot is good", stageService},
	{FaultNotSender, "400 not.allowed.robotCode, though the keys are the robot's", stageService},
	{FaultParamInvalid, "400 invalidParameter.param.invalid", stageService},
	{FaultNoKeys, "400 invalidParameter.processQueryKey.missing", stageService},
	{FaultOverMax, "400 invalidParameter.processQueryKeys.overMax", stageService},
	{FaultKeyInvalid, "400 invalid.processQueryKey, though the keys are good", stageService},
	{FaultKeyExpired, "400 robot.processQueryKey.expired, though the keys are good", stageService},
	{FaultUnknownCode, "400 with a code that is in no document", stageService},
	{FaultEmpty200, "200 without a body; nothing was done", stageService},
	{FaultNoLists, "200 with {}; nothing was done", stageService},
	{FaultNullLists, "200 with both lists null; nothing was done", stageService},
	{FaultHang, "no answer until the client leaves; nothing was done", stageService},
	{FaultLostAnswer, "applied, then the connection is cut", stageWire},
	{FaultTruncated, "applied; the answer's JSON ends half-way", stageWire},
	{FaultCutBody, "applied; the connection is cut half-way through the answer", stageWire},
	{FaultHuge, "applied; the answer is padded to an absurd size", stageWire},
	{FaultSlow, "applied; the answer trickles", stageWire},
	{FaultDrip, "applied; the answer comes byte by byte", stageWire},
	{FaultGzip, "applied; the answer is gzipped, though nobody asked for that", stageWire},
	{FaultGzipRubbish, "applied; the answer calls itself gzipped and is rubbish", stageWire},
	{FaultContentType, "applied; the answer is JSON that calls itself text/html", stageWire},
	{FaultMissingKeys, "applied; the answer leaves out some keys", stageLists},
	{FaultBothLists, "applied; a recalled key is in both lists", stageLists},
	{FaultForeignKeys, "applied; the answer has keys that were not asked for", stageLists},
	{FaultRepeatedKey, "applied; a key is twice in its list", stageLists},
	{FaultEmptyLists, "applied; both lists are empty", stageLists},
	{FaultFailedList, "applied; failedResult is a list of objects", stageLists},
	{FaultNested, "applied; each reason in failedResult is an object", stageLists},
	{FaultUnknownReason, "applied but for the first key, whose reason is in no document", stageLists},
	{FaultRobotReason, "nothing was done; invalidParameter.robotCode is the reason of every key", stageLists},
	{FaultSystemReason, "nothing was done; system.error is the reason of every key", stageLists},
	{FaultQPSReason, "nothing was done; a throttle per second is the reason of every key", stageLists},
	{FaultNotRevokeReason, "applied but for the first key, whose reason is notRevoke.all.messages", stageLists},
	{FaultNotRevoke, "applied but for the first key; 400 notRevoke.all.messages without lists", stageLists},
	{FaultNotRevokeLists, "the same with both lists", stageLists},
}

var faultStages = func() map[Fault]stage {
	m := make(map[Fault]stage, len(faultInfos))
	for _, f := range faultInfos {
		m[f.Fault] = f.stage
	}
	return m
}()

// Faults lists every fault there is, with what it does.
func Faults() []FaultInfo { return slices.Clone(faultInfos) }

// API names a group of endpoints.
type API string

// The groups.
const (
	APIRecall     API = "batchRecall"
	APIReadStatus API = "readStatus"
	APIToken      API = "token" // all three token endpoints
)

// FaultRule says when a fault strikes. At least one of Probability, From, To, Every and Times must be given, and all that are given must
// agree. Calls are counted from 1, from the moment the rules were set, and only calls to the rule's API, and for its robot, count. Of several
// rules that agree the first wins.
type FaultRule struct {
	Fault Fault `json:"fault" yaml:"fault"`
	// API is the endpoint concerned. Default batchRecall.
	API API `json:"api,omitempty" yaml:"api"`
	// Robot is the robotCode concerned, as the call has it. Default: all.
	Robot string `json:"robot,omitempty" yaml:"robot"`
	// Probability is the share of calls, above 0 and up to 1, by the seed. Default 1 if something else is given.
	Probability float64 `json:"probability,omitempty" yaml:"probability"`
	// From and To are the first and last call concerned. Default: the first, and no last.
	From int64 `json:"from,omitempty" yaml:"from"`
	To   int64 `json:"to,omitempty" yaml:"to"`
	// Every concerns each n-th call only: the n-th, the 2n-th and so on.
	Every int64 `json:"every,omitempty" yaml:"every"`
	// Times is how often it strikes in all. Default: without end.
	Times int64 `json:"times,omitempty" yaml:"times"`
}

// Validate checks the rule.
func (r FaultRule) Validate() error {
	st, ok := faultStages[r.Fault]
	switch {
	case !ok:
		names := make([]string, len(faultInfos))
		for i, f := range faultInfos {
			names[i] = string(f.Fault)
		}
		return fmt.Errorf("no fault is called %q; the faults are %s", r.Fault, strings.Join(names, ", "))
	case r.API != "" && r.API != APIRecall && r.API != APIReadStatus && r.API != APIToken:
		return fmt.Errorf("fault %s: no api is called %q; they are %s, %s, %s", r.Fault, r.API, APIRecall, APIReadStatus, APIToken)
	case r.Robot != "" && r.API == APIToken:
		return fmt.Errorf("fault %s: a call for a token has no robot", r.Fault)
	case st == stageLists && r.API != "" && r.API != APIRecall:
		return fmt.Errorf("fault %s: only answers of %s have lists", r.Fault, APIRecall)
	case math.IsNaN(r.Probability) || r.Probability < 0 || r.Probability > 1:
		return fmt.Errorf("fault %s: probability %v is not above 0 and up to 1", r.Fault, r.Probability)
	case r.From < 0 || r.To < 0 || r.Every < 0 || r.Times < 0:
		return fmt.Errorf("fault %s: from, to, every and times cannot be negative", r.Fault)
	case r.To > 0 && r.To < r.From:
		return fmt.Errorf("fault %s: to %d comes before from %d", r.Fault, r.To, r.From)
	case r.Probability == 0 && r.From == 0 && r.To == 0 && r.Every == 0 && r.Times == 0:
		return fmt.Errorf("fault %s: say when: a probability above 0, from, to, every or times", r.Fault)
	}
	return nil
}

// ParseFaultRule reads a rule from one argument: the fault's name alone (always), name=PROBABILITY, or name with fields after commas:
//
//	lost-answer=0.05    qps,from=10,to=20    system-error,api=token,times=1    hang=0.5,every=100    permission,robot=dingrobot
func ParseFaultRule(text string) (FaultRule, error) {
	parts := strings.Split(text, ",")
	name, prob, hasProb := strings.Cut(parts[0], "=")
	rule := FaultRule{Fault: Fault(strings.TrimSpace(name))}
	var err error
	if hasProb {
		if rule.Probability, err = strconv.ParseFloat(prob, 64); err != nil {
			return FaultRule{}, fmt.Errorf("fault %q: %q is not a number", text, prob)
		}
	} else if len(parts) == 1 {
		rule.Probability = 1
	}
	for _, part := range parts[1:] {
		field, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		var number *int64
		switch field {
		case "api":
			rule.API = API(value)
			continue
		case "robot":
			rule.Robot = value
			continue
		case "from":
			number = &rule.From
		case "to":
			number = &rule.To
		case "every":
			number = &rule.Every
		case "times":
			number = &rule.Times
		default:
			return FaultRule{}, fmt.Errorf("fault %q: %q is none of api, robot, from, to, every, times", text, field)
		}
		if *number, err = strconv.ParseInt(value, 10, 64); err != nil {
			return FaultRule{}, fmt.Errorf("fault %q: %s: %q is not a whole number", text, field, value)
		}
	}
	if rule.Probability == 0 && !hasProb && rule.From == 0 && rule.To == 0 && rule.Every == 0 && rule.Times == 0 {
		rule.Probability = 1 // only an api or a robot was given
	}
	return rule, rule.Validate()
}

// activeRule is a rule with its counters.
type activeRule struct {
	FaultRule
	salt   uint64
	seen   atomic.Int64 // calls to the rule's API and for its robot
	struck atomic.Int64
}

func activate(rules []FaultRule) []*activeRule {
	active := make([]*activeRule, len(rules))
	for i, r := range rules {
		if r.API == "" {
			r.API = APIRecall
		}
		active[i] = &activeRule{FaultRule: r, salt: mix(uint64(i) + 0x6661756c74)} //nolint:gosec // i is not negative
	}
	return active
}

// pick returns the fault that strikes a call, or "".
func pick(rules []*activeRule, c *call) Fault {
	var struck Fault
	for _, r := range rules {
		if r.API != c.api || r.Robot != "" && r.Robot != c.robot() {
			continue
		}
		n := r.seen.Add(1)
		switch {
		case struck != "", // an earlier rule won; this one still counts the call
			n < r.From,
			r.To > 0 && n > r.To,
			r.Every > 0 && n%r.Every != 0,
			r.Probability > 0 && unit(mix(c.rnd^r.salt)) >= r.Probability,
			r.Times > 0 && r.struck.Add(1) > r.Times:
			continue
		}
		struck = r.Fault
	}
	return struck
}
