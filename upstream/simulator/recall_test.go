package simulator

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	uuidShape  = `[0-9A-F]{8}-[0-9A-F]{4}-7[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}`
	traceShape = `^[0-9a-f]{32}$`
)

// TestDocumentedCodes has every code that is documented for the call, and the global ones, in the shape of the real body.
func TestDocumentedCodes(t *testing.T) {
	t.Parallel()
	whole := Config{Failure: FailWhole, Robots: []string{testRobot, "other"}}
	withFault := func(f Fault) Config { return Config{Faults: []FaultRule{{Fault: f, Probability: 1}}} }
	one := func(kind Kind) func(*bundle) reply {
		return func(b *bundle) reply { return b.recall(b.key(Good), b.key(kind)) }
	}
	good := one(Good)
	body := func(text string) func(*bundle) reply {
		return func(b *bundle) reply { return b.post(recallPath, text) }
	}
	for name, tc := range map[string]struct {
		cfg    Config
		call   func(*bundle) reply
		status int
		code   string
		denied string
	}{
		"robot":         {whole, body(recallJSON("nobody", "k")), 400, "invalidParameter.robotCode", ""},
		"over 20":       {whole, func(b *bundle) reply { return b.recall(b.keys(21)...) }, 400, "invalidParameter.processQueryKeys.overMax", ""},
		"other robot":   {whole, one(Foreign), 400, "not.allowed.robotCode", ""},
		"empty robot":   {whole, body(recallJSON("", "k")), 400, "invalidParameter.param.invalid", ""},
		"empty key":     {whole, func(b *bundle) reply { return b.recall(b.key(Good), "") }, 400, "invalidParameter.param.invalid", ""},
		"no JSON":       {whole, body(`robotCode=x`), 400, "invalidParameter.param.invalid", ""},
		"wrong type":    {whole, body(`{"robotCode":"x","processQueryKeys":"k"}`), 400, "invalidParameter.param.invalid", ""},
		"empty body":    {whole, body(``), 400, "invalidParameter.param.invalid", ""},
		"huge request":  {whole, body(`{"robotCode":"` + strings.Repeat("x", maxRequestBytes) + `"}`), 400, "invalidParameter.param.invalid", ""},
		"no keys":       {whole, body(`{"robotCode":"x"}`), 400, "invalidParameter.processQueryKey.missing", ""},
		"empty keys":    {whole, body(recallJSON(testRobot)), 400, "invalidParameter.processQueryKey.missing", ""},
		"unknown key":   {whole, one(Unknown), 400, "invalid.processQueryKey", ""},
		"expired":       {whole, one(Expired), 400, "robot.processQueryKey.expired", ""},
		"not revoked":   {whole, one(NotRevoked), 400, "notRevoke.all.messages", ""},
		"system error":  {whole, one(SystemErrorAlways), 500, "system.error", ""},
		"token":         {whole, func(b *bundle) reply { b.token = "x"; return good(b) }, 400, "InvalidAuthentication", ""},
		"token, fault":  {withFault(FaultInvalidToken), good, 400, "InvalidAuthentication", ""},
		"permission":    {withFault(FaultPermission), good, 403, "Forbidden.AccessDenied.AccessTokenPermissionDenied", `,"accessdenieddetail":{"requiredScopes":["qyapi_robot_sendmsg"]}`},
		"address":       {withFault(FaultIPWhitelist), good, 403, "Forbidden.AccessDenied.IpNotInWhiteList", ""},
		"qps":           {withFault(FaultQPS), good, 403, "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi", ""},
		"qpm":           {withFault(FaultQPM), good, 403, "Forbidden.AccessDenied.QpmLimitForAppkeyAndApi", ""},
		"month, fault":  {withFault(FaultAPICount), good, 403, "Forbidden.AccessDenied.ApiCountLimitForOrg", ""},
		"month":         {Config{MonthlyCalls: 1}, func(b *bundle) reply { good(b); return good(b) }, 403, "Forbidden.AccessDenied.ApiCountLimitForOrg", ""},
		"busy":          {withFault(FaultBusy), good, 429, "system.busy", ""},
		"internalError": {withFault(FaultInternalError), good, 500, "internalError", ""},
		"serviceBusy":   {withFault(FaultServiceBusy), good, 503, "serviceBusy", ""},
		"no such path":  {whole, func(b *bundle) reply { return b.post("/v1.0/robot/oToMessages/batchRecall", "{}") }, 404, "InvalidAction.NotFound", ""},
		"wrong method": {whole, func(b *bundle) reply {
			return b.do(request(http.MethodGet, recallPath, b.token, ""))
		}, 405, "InvalidAction.MethodNotAllowed", ""},
		"suite's qps": {Config{Rate: 1}, func(b *bundle) reply {
			got := b.post("/v1.0/oauth2/corpAccessToken", `{"suiteKey":"s","suiteSecret":"s","authCorpId":"c","suiteTicket":"t"}`)
			b.token = regexpToken(got.body)
			good(b)
			return good(b)
		}, 403, "Forbidden.AccessDenied.QpsLimitForSuitekeyAndOrgAndApi", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, tc.cfg)
			got := tc.call(b)
			shape := `^\{"code":"` + regexp.QuoteMeta(tc.code) + `","requestid":"(` + uuidShape + `)","message":"[^"]+"` + regexp.QuoteMeta(tc.denied) + `\}$`
			match := regexp.MustCompile(shape).FindStringSubmatch(got.body)
			if got.status != tc.status || match == nil {
				t.Fatalf("got %d %s\nwant %d %s", got.status, got.body, tc.status, shape)
			}
			if strings.Contains(got.body[strings.Index(got.body, `"message"`):], tc.code) {
				t.Error("the message has the code in it, which the real one need not")
			}
			if got.header.Get("x-acs-request-id") != match[1] || !regexp.MustCompile(traceShape).MatchString(got.header.Get("x-acs-trace-id")) || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("headers %v", got.header)
			}
		})
	}
}

func TestSuccessIsExact(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	keys := b.keys(2)
	got := b.recall(keys[0], keys[1], keys[0])
	if want := `{"successResult":["` + keys[0] + `","` + keys[1] + `"],"failedResult":{}}`; got.body != want || got.status != 200 {
		t.Errorf("got %d %s, want %s", got.status, got.body, want)
	}
	if !regexp.MustCompile(`^`+uuidShape+`$`).MatchString(got.header.Get("x-acs-request-id")) || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", got.header)
	}
	r := request(http.MethodPost, recallPath, b.token, recallJSON(testRobot, keys[0]))
	r.Header.Set("Content-Type", "application/json; charset=utf-8") // as the official Go SDK sends it
	if got := b.do(r); got.status != 200 {
		t.Errorf("with a charset: %d %s", got.status, got.body)
	}
	r = request(http.MethodPost, recallPath, b.token, recallJSON(testRobot, keys[0]))
	r.Header.Del("Content-Type")
	if got := b.do(r); got.code() != codeParam {
		t.Errorf("without a type: %d %s", got.status, got.body)
	}
}

func TestWholeFailure(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Failure: FailWhole, NameKey: true})
	good, expired, unknown := b.key(Good), b.key(Expired), b.key(Unknown)
	got := b.recall(good, expired, unknown)
	if got.code() != codeExpired || !strings.Contains(got.body, expired) || strings.Contains(got.body, unknown) {
		t.Errorf("the first bad key is not what the call fails of: %s", got.body)
	}
	if st := b.sim.Stats(); st.KeysRecalled != 0 || st.KeysFailed[codeExpired] != 1 || st.Outcomes[codeExpired] != 1 {
		t.Errorf("stats %+v", st)
	}
	success, failed := b.lists(b.recall(good))
	if !slices.Equal(success, []string{good}) || len(failed) != 0 {
		t.Errorf("got %v, %v", success, failed)
	}
}

func TestRandomFailureDoesBoth(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Failure: FailRandom})
	statuses := map[int]int{}
	for range 200 {
		statuses[b.recall(b.key(Good), b.key(Expired)).status]++
	}
	if statuses[200] < 60 || statuses[400] < 60 || statuses[200]+statuses[400] != 200 {
		t.Errorf("statuses %v", statuses)
	}
}

func TestNotRevokeKnobs(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg      Config
		recalled int64
		lists    bool
	}{
		"nothing":        {Config{}, 0, false},
		"rest":           {Config{NotRevokeRecallsRest: true}, 1, false},
		"rest and lists": {Config{NotRevokeRecallsRest: true, NotRevokeLists: true}, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.cfg.Failure = FailWhole
			b := setup(t, tc.cfg)
			good, bad := b.key(Good), b.key(NotRevoked)
			got := b.recall(bad, good)
			want := `,"successResult":["` + good + `"],"failedResult":{"` + bad + `":"notRevoke.all.messages"}}`
			if got.code() != codeNotRevoke || strings.HasSuffix(got.body, want) != tc.lists || strings.Contains(got.body, "Result") != tc.lists {
				t.Errorf("got %s", got.body)
			}
			if n := b.sim.Stats().KeysRecalled; n != tc.recalled {
				t.Errorf("%d recalled, want %d", n, tc.recalled)
			}
		})
	}
}

func TestReasonStyles(t *testing.T) {
	t.Parallel()
	reasons := func(style Reasons) map[string]bool {
		b := setup(t, Config{Reasons: style})
		seen := map[string]bool{}
		for range 60 {
			_, failed := b.lists(b.recall(b.key(Expired)))
			if len(failed) != 1 {
				t.Fatalf("%s: %v", style, failed)
			}
			for _, reason := range failed {
				seen[reason] = true
			}
		}
		return seen
	}
	prose := sayings[codeExpired].reason
	for style, want := range map[Reasons][]string{
		ReasonCode: {codeExpired}, ReasonProse: {prose}, ReasonVague: {"system error"},
		ReasonMixed: {codeExpired, "ROBOT_PROCESSQUERYKEY_EXPIRED", prose},
	} {
		got := reasons(style)
		for _, w := range want {
			if !got[w] || len(got) != len(want) {
				t.Errorf("%s: got %v, want %q", style, got, want)
			}
		}
	}
}

func TestAlreadyRecalled(t *testing.T) {
	t.Parallel()
	for already, code := range map[Already]string{AlreadySuccess: "", AlreadyNotRevoke: codeNotRevoke, AlreadyInvalid: codeInvalidKey} {
		b := setup(t, Config{AlreadyRecalled: already})
		key := b.key(Good)
		if success, _ := b.lists(b.recall(key)); len(success) != 1 {
			t.Fatalf("%s: the first call recalled %v", already, success)
		}
		success, failed := b.lists(b.recall(key))
		if failed[key] != code || (len(success) == 1) != (code == "") {
			t.Errorf("%s: got %v, %v", already, success, failed)
		}
		if st := b.sim.Stats(); st.KeysRecalled != 1 || st.KeysDistinct != 1 || st.KeysAskedAgain != 1 || st.KeysAskedAfterTold != 1 || st.KeysAskedRecalled != 1 {
			t.Errorf("%s: stats %+v", already, st)
		}
	}
}

func TestRegisteredKeys(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{RegisteredOnly: true, UnknownRobots: []string{"gone"}, Lookup: func(_, key string) (KeyInfo, bool) {
		return KeyInfo{}, key == "looked-up"
	}})
	now := b.clock.Now()
	b.sim.Register(testRobot, "mine", now)
	b.sim.Register(testRobot, "last-second", now.Add(-24*time.Hour+time.Nanosecond))
	b.sim.Register(testRobot, "old", now.Add(-24*time.Hour))
	b.sim.Register("other", "theirs", now)
	b.sim.RegisterKey("cursed", KeyInfo{Kind: SystemErrorAlways})
	got := b.recall("mine", "last-second", "old", "theirs", "cursed", "looked-up", "nobody's", b.key(Good))
	success, _ := b.lists(got)
	if !slices.Equal(success, []string{"mine", "last-second", "looked-up"}) {
		t.Errorf("recalled %q", success)
	}
	b.made--
	b.wantFailed(got, map[string]string{"old": codeExpired, "theirs": codeForeign, "cursed": codeSystemError, "nobody's": codeInvalidKey, b.key(Good): codeInvalidKey})
	if got := b.post(recallPath, recallJSON("gone", "mine")); got.code() != codeRobot {
		t.Errorf("a robot that does not exist got %s", got.body)
	}
	// A registration replaces what a made key says of itself.
	marked := b.key(Expired)
	b.sim.Register(testRobot, marked, now)
	if success, _ := b.lists(b.recall(marked)); len(success) != 1 {
		t.Errorf("the registered key was not recalled")
	}
}

func TestFlakyKeysComeThrough(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{FlakyRate: 0.25})
	failures := 0
	for range 400 {
		_, failed := b.lists(b.recall(b.key(Flaky)))
		failures += len(failed)
	}
	if failures < 70 || failures > 130 {
		t.Errorf("%d of 400 failed, want about 100", failures)
	}
}

func TestReadStatus(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Robots: []string{testRobot}})
	ask := func(robot, key string) reply {
		r := request(http.MethodGet, "/v1.0/robot/oToMessages/readStatus", b.token, "")
		query := r.URL.Query()
		query.Set("robotCode", robot)
		query.Set("processQueryKey", key)
		r.URL.RawQuery = query.Encode()
		return b.do(r)
	}
	key := b.key(Good)
	if got := ask(testRobot, key); got.body != `{"sendStatus":"SUCCESS","messageReadInfoList":[]}` {
		t.Errorf("before: %s", got.body)
	}
	b.recall(key)
	if got := ask(testRobot, key); got.body != `{"sendStatus":"RECALLED","messageReadInfoList":[]}` {
		t.Errorf("after: %s", got.body)
	}
	b.clock.Add(23 * time.Hour)
	b.token = b.newToken()
	for code, got := range map[string]reply{
		codeExpired: ask(testRobot, key), codeInvalidKey: ask(testRobot, b.key(Unknown)), codeForeign: ask(testRobot, b.key(Foreign)),
		codeRobot: ask("nobody", key), codeMissing: ask(testRobot, ""), codeParam: ask("", key),
	} {
		if got.status != 400 && got.status != 200 || got.code() != code {
			t.Errorf("want %s, got %d %s", code, got.status, got.body)
		}
	}
	if st := b.sim.Stats(); st.ReadStatusCalls != 8 || st.Calls != 1 || st.Metered != 9 {
		t.Errorf("stats %+v", st)
	}
}
