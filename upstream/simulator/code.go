package simulator

import "net/http"

// The codes that the simulator answers with. All are official except where said otherwise.
const (
	codeRobot         = "invalidParameter.robotCode"
	codeOverMax       = "invalidParameter.processQueryKeys.overMax"
	codeForeign       = "not.allowed.robotCode"
	codeParam         = "invalidParameter.param.invalid"
	codeMissing       = "invalidParameter.processQueryKey.missing"
	codeInvalidKey    = "invalid.processQueryKey"
	codeConversation  = "invalid.openConversationId" // official for a neighbour, groupMessages/query
	codeExpired       = "robot.processQueryKey.expired"
	codeNotRevoke     = "notRevoke.all.messages"
	codeSystemError   = "system.error"
	codeInternal      = "internalError"
	codeServiceBusy   = "serviceBusy"
	codeSystemBusy    = "system.busy"
	codeTimeout       = "service.timeout"
	codeToken         = "InvalidAuthentication"
	codePermission    = "Forbidden.AccessDenied.AccessTokenPermissionDenied"
	codeIP            = "Forbidden.AccessDenied.IpNotInWhiteList"
	codeQpsApp        = "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"
	codeQpsSuite      = "Forbidden.AccessDenied.QpsLimitForSuitekeyAndOrgAndApi"
	codeQpmApp        = "Forbidden.AccessDenied.QpmLimitForAppkeyAndApi"
	codeCount         = "Forbidden.AccessDenied.ApiCountLimitForOrg" // its status 403 is hearsay
	codeCredentials   = "invalidClientIdOrSecret"
	codeSuiteKey      = "invalidSuiteKey"
	codeSuiteTicket   = "invalidSuiteTicket"
	codeAuthInfo      = "invalidAuthInfo"
	codeClient        = "invalid.client"
	codeUnauthorized  = "unauthorized.client"
	codeNoSuchAction  = "InvalidAction.NotFound"         // seen from the gateway for an unknown path
	codeNew           = "robot.recall.brandNew"          // made up: a code that nobody has heard of
	codeWrongMethod   = "InvalidAction.MethodNotAllowed" // made up: what the gateway says is unknown
	scopeSendMessages = "qyapi_robot_sendmsg"            // the permission that a recall needs
)

// said is how a code is answered: HTTP status, message of a failed call, reason in failedResult when reasons are prose. The prose is made
// up in the style of the real one, which is often Chinese, so that no client can come to rely on it.
type said struct {
	status  int
	message string
	reason  string
}

var sayings = map[string]said{
	codeRobot:        {http.StatusBadRequest, "企业下不存在该机器人", ""},
	codeOverMax:      {http.StatusBadRequest, "processQueryKeys数量超过上限20", ""},
	codeForeign:      {http.StatusBadRequest, "消息不是该机器人发送的", "无权撤回该消息"},
	codeParam:        {http.StatusBadRequest, "参数为空或不合法", ""},
	codeMissing:      {http.StatusBadRequest, "缺少processQueryKey", ""},
	codeInvalidKey:   {http.StatusBadRequest, "无效的processQueryKey", "消息不存在"},
	codeConversation: {http.StatusBadRequest, "无效的openConversationId", ""},
	codeExpired:      {http.StatusBadRequest, "processQueryKey已过期", "消息发送时间过久，不能撤回"},
	codeNotRevoke:    {http.StatusBadRequest, "消息未全部撤回", "部分消息撤回失败"},
	codeSystemError:  {http.StatusInternalServerError, "未知系统错误", "system error"},
	codeInternal:     {http.StatusInternalServerError, "服务内部错误", ""},
	codeServiceBusy:  {http.StatusServiceUnavailable, "服务繁忙，请稍后重试", ""},
	codeSystemBusy:   {http.StatusTooManyRequests, "系统繁忙，请求过于频繁", ""},
	codeTimeout:      {http.StatusGatewayTimeout, "服务超时", ""},
	codeNew:          {http.StatusBadRequest, "还没有人见过的错误", ""},
	codeToken:        {http.StatusBadRequest, "不合法的access_token", ""},
	codePermission:   {http.StatusForbidden, "应用尚未开通所需的权限：[" + scopeSendMessages + "]", ""},
	codeIP:           {http.StatusForbidden, "访问ip不在白名单之中", ""},
	codeQpsApp:       {http.StatusForbidden, "您的应用调用该接口超过了每秒调用次数上限", ""},
	codeQpsSuite:     {http.StatusForbidden, "您的套件在该企业调用该接口超过了每秒调用次数上限", ""},
	codeQpmApp:       {http.StatusForbidden, "您的应用调用该接口超过了每分钟调用次数上限", ""},
	codeCount:        {http.StatusForbidden, "企业当月API调用次数已用完", ""},
	codeCredentials:  {http.StatusBadRequest, "无效的clientId或者clientSecret", ""},
	codeSuiteKey:     {http.StatusBadRequest, "无效的suiteKey或suiteSecret", ""},
	codeSuiteTicket:  {http.StatusBadRequest, "无效的suiteTicket", ""},
	codeAuthInfo:     {http.StatusBadRequest, "企业未授权该应用", ""},
	codeClient:       {http.StatusBadRequest, "无效的client", ""},
	codeUnauthorized: {http.StatusUnauthorized, "client未获得该企业的授权", ""},
	codeNoSuchAction: {http.StatusNotFound, "Specified api is not found, please check your url and method.", ""},
	codeWrongMethod:  {http.StatusMethodNotAllowed, "Specified api does not support this method.", ""},
}

// final tells whether the code settles the fate of a key for ever.
func final(code string) bool {
	return code == codeExpired || code == codeInvalidKey || code == codeForeign
}
