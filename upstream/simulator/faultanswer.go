package simulator

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
)

const (
	htmlType = "text/html; charset=utf-8"
	html502  = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>Tengine</center>\r\n</body>\r\n</html>\r\n"
	html200  = "<!DOCTYPE html>\n<html><head><title>Sign in to the network</title></head><body><form action=\"/login\"></form></body></html>\n"
	htmlBan  = "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>405</title></head><body>很抱歉，由于您访问的IP可能造成安全威胁，您的访问被阻断。</body></html>\n"

	// otherHost is where the fault redirect-host points: a name that nobody can have.
	otherHost = "https://elsewhere.invalid"
)

// codeFaults are the faults that are nothing but a code.
var codeFaults = map[Fault]string{
	FaultInvalidToken:  codeToken,
	FaultPermission:    codePermission,
	FaultIPWhitelist:   codeIP,
	FaultQPM:           codeQpmApp,
	FaultAPICount:      codeCount,
	FaultBusy:          codeSystemBusy,
	FaultSystemError:   codeSystemError,
	FaultInternalError: codeInternal,
	FaultServiceBusy:   codeServiceBusy,
	FaultTimeout504:    codeTimeout,
	FaultRobotUnknown:  codeRobot,
	FaultNotSender:     codeForeign,
	FaultParamInvalid:  codeParam,
	FaultNoKeys:        codeMissing,
	FaultOverMax:       codeOverMax,
	FaultKeyInvalid:    codeInvalidKey,
	FaultKeyExpired:    codeExpired,
	FaultUnknownCode:   codeNew,
}

// gatewayFault makes the answer of a fault that comes before the service. The page that refuses an IP address and the status of its JSON
// form are unknown.
func gatewayFault(c *call, fault Fault) answer {
	page := func(status int, text string) answer {
		return answer{status: status, contentType: htmlType, body: []byte(text), label: string(fault)}
	}
	ban := func(status int) answer {
		body := fmt.Sprintf(`{"status":1111,"wait":5,"source":"x5","punish":"deny","uuid":"%016x"}`, mix(c.rnd))
		return answer{status: status, body: []byte(body), label: string(fault)}
	}
	if code := codeFaults[fault]; code != "" {
		return refuse(c, code)
	}
	switch fault {
	case FaultQPS:
		if c.app != nil && c.app.suite {
			return refuse(c, codeQpsSuite)
		}
		return refuse(c, codeQpsApp)
	case FaultRetryAfter:
		a := refuse(c, codeSystemBusy)
		a.header = map[string]string{"Retry-After": "1"}
		return a
	case FaultIPBan200:
		return ban(http.StatusOK)
	case FaultIPBan403:
		return ban(http.StatusForbidden)
	case FaultIPBanHTML:
		return page(http.StatusForbidden, htmlBan)
	case FaultHTML502:
		return page(http.StatusBadGateway, html502)
	case FaultHTML200:
		return page(http.StatusOK, html200)
	case FaultBare401:
		return page(http.StatusUnauthorized, "")
	case FaultRedirect:
		a := page(http.StatusTemporaryRedirect, "")
		a.header = map[string]string{"Location": redirectTarget}
		return a
	case FaultRedirectHost:
		a := page(http.StatusFound, "")
		a.header = map[string]string{"Location": otherHost + c.r.URL.Path}
		return a
	default: // FaultCut: deliver never writes this
		return answer{label: string(fault)}
	}
}

// serviceFault makes the answer of a service that fails without doing anything.
func serviceFault(c *call, fault Fault) answer {
	say := func(status int, body string) answer {
		return answer{status: status, body: []byte(body), label: string(fault)}
	}
	if code := codeFaults[fault]; code != "" {
		return refuse(c, code)
	}
	switch fault {
	case FaultError200:
		a := refuse(c, codeSystemError)
		a.status, a.label = http.StatusOK, string(fault)
		return a
	case FaultBare503:
		return say(http.StatusServiceUnavailable, "")
	case FaultEmpty200:
		return say(http.StatusOK, "")
	case FaultNoLists:
		return say(http.StatusOK, "{}")
	case FaultNullLists:
		return say(http.StatusOK, `{"successResult":null,"failedResult":null}`)
	default: // FaultHang: deliver never writes this
		return answer{label: string(fault)}
	}
}

// reasonFaults are the faults that give every key the same reason.
var reasonFaults = map[Fault]string{
	FaultRobotReason:  codeRobot,
	FaultSystemReason: codeSystemError,
	FaultQPSReason:    codeQpsApp,
}

// overrule makes keys fail that are good, where the fault is that.
func overrule(fates []fate, fault Fault) bool {
	switch fault {
	case FaultUnknownReason:
		fates[0] = fate{code: codeNew}
	case FaultNotRevokeReason, FaultNotRevoke, FaultNotRevokeLists:
		fates[0] = fate{code: codeNotRevoke}
	case FaultRobotReason, FaultSystemReason, FaultQPSReason:
		for i := range fates {
			fates[i] = fate{code: reasonFaults[fault]}
		}
	default:
		return false
	}
	return true
}

// nestedReason is a reason that is an object: one of the shapes that nobody has ruled out.
type nestedReason struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// listedReason is an entry of a failedResult that is a list.
type listedReason struct {
	Key    string `json:"processQueryKey"`
	Reason string `json:"reason"`
}

// shaped is the body of an answer in the shape that the fault wants.
func shaped(body recallBody, fault Fault) any {
	type odd struct {
		Success []string `json:"successResult"`
		Failed  any      `json:"failedResult"`
	}
	switch fault {
	case FaultEmptyLists:
		return recallBody{Success: []string{}, Failed: map[string]string{}}
	case FaultNested:
		failed := map[string]nestedReason{}
		for key, reason := range body.Failed {
			failed[key] = nestedReason{Code: reason, Message: "撤回失败"}
		}
		return odd{body.Success, failed}
	case FaultFailedList:
		failed := []listedReason{}
		for _, key := range slices.Sorted(maps.Keys(body.Failed)) {
			failed = append(failed, listedReason{key, body.Failed[key]})
		}
		return odd{body.Success, failed}
	}
	return body
}
