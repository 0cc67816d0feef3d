package oauth

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"signet/authorizations"
	"signet/clients"
	"signet/logins"
	"signet/server/pages"
	"signet/server/request"
	"signet/tokens"
	"signet/users"
)

const (
	deviceAuthorizationPath = "/device_authorization"
	devicePath              = "/device"
)

// deviceAuthorization answers POST /device_authorization (RFC 8628 section 3.1).
func (s *Server) deviceAuthorization(c *gin.Context) {
	ctx := c.Request.Context()
	call, err := s.admit(c.Writer, c.Request)
	if err == nil && !call.client.May(clients.DeviceCode) {
		err = badRequest("unauthorized_client", "the client is not registered for the device_code grant")
	}
	t := &tokenCall{call: call}
	if err == nil {
		err = t.checkReach(s.tokens.Issuer())
	}
	if err == nil {
		err = s.countPending(ctx, call)
	}
	var deviceCode string
	var userCode authorizations.UserCode
	if err == nil {
		deviceCode, userCode, err = s.authorizations.StartDevice(ctx, call.client, t.scope, t.audience, call.origin())
	}
	if err != nil {
		Fail(ctx, c.Writer, err)
		return
	}
	page := s.tokens.Issuer() + devicePath
	writeJSON(c.Writer, http.StatusOK, struct {
		DeviceCode string `json:"device_code"`
		UserCode   string `json:"user_code"`
		URI        string `json:"verification_uri"`
		Complete   string `json:"verification_uri_complete"`
		ExpiresIn  int    `json:"expires_in"`
		Interval   int    `json:"interval"`
	}{
		deviceCode, userCode.String(), page, page + "?user_code=" + userCode.String(),
		int(authorizations.DeviceTTL / time.Second), int(authorizations.DevicePause / time.Second),
	})
}

// deviceGrant answers a call of /token with a device code (RFC 8628 section 3.5). The library knows no such grant.
func (s *Server) deviceGrant(c *gin.Context, call *tokenCall) {
	ctx := c.Request.Context()
	issued, poll, err := s.tokens.RedeemDevice(ctx, call.client, call.form.Get("device_code"), c.Request.Header.Get("Authorization") != "", call.key, call.origin())
	switch {
	case err != nil || issued.AccessToken != "":
	case poll == authorizations.PollTooSoon:
		err = badRequest("slow_down", "the device asks too often; from now on it has to wait five seconds longer")
	case poll == authorizations.PollDenied:
		err = badRequest("access_denied", "the user did not allow it")
	case poll == authorizations.PollExpired:
		err = badRequest("expired_token", "the device code has expired; begin anew")
	default:
		err = badRequest("authorization_pending", "the user has not decided yet")
	}
	if errors.Is(err, tokens.ErrInvalidCode) {
		err = badRequest("invalid_grant", "the device code is unknown or used, or was issued to another client, or its user is logged in no more")
	}
	if err != nil {
		Fail(ctx, c.Writer, err)
		return
	}
	s.metrics.issued(call.info.GrantType)
	call.info.SessionID = issued.SessionID
	answer := map[string]any{
		"access_token": issued.AccessToken, "token_type": issued.Type, "expires_in": int64(issued.ExpiresIn / time.Second), "scope": issued.Scope,
	}
	if issued.RefreshToken != "" {
		answer["refresh_token"] = issued.RefreshToken
	}
	if issued.IDToken != "" {
		answer["id_token"] = issued.IDToken
	}
	writeJSON(c.Writer, http.StatusOK, answer)
}

// askForUserCode answers GET /device: the form for the code that a device shows. It only fills in what the link says: to look
// the code up here would be a way to guess.
func (s *Server) askForUserCode(c *gin.Context) {
	v := pages.Device{UserCode: c.Query("user_code")}
	if code, ok := authorizations.ParseUserCode(v.UserCode); ok {
		v.UserCode = code.String()
	} else if len(v.UserCode) > 64 {
		v.UserCode = ""
	}
	s.pages.Device(c, http.StatusOK, v)
}

// chooseDevice answers POST /device: it finds the device and goes on as an authorization request does.
func (s *Server) chooseDevice(c *gin.Context) {
	form, ok := s.formOf(c)
	if !ok {
		return
	}
	ctx := c.Request.Context()
	info := request.From(ctx)
	v := pages.Device{UserCode: form.Get("user_code"), Problem: pages.BadUserCode}
	code, ok := authorizations.ParseUserCode(v.UserCode)
	if !ok {
		v.UserCode = v.UserCode[:min(len(v.UserCode), 64)]
		s.pages.Device(c, http.StatusBadRequest, v)
		return
	}
	v.UserCode = code.String()
	l, known, err := s.logins.Current(ctx, s.loginCookie(c.Request))
	visitor := "" // counted with others of that address alone
	if known {
		visitor = l.UserID
	}
	if err == nil {
		err = s.users.CountGuess(ctx, visitor, string(code), info.Origin)
	}
	var d authorizations.Device
	if err == nil {
		d, ok, err = s.authorizations.Device(ctx, code)
	}
	if err == nil && ok {
		err = s.users.TakeBackGuess(ctx, visitor, string(code), info.Origin)
	}
	var throttled *users.ThrottledError
	switch info.Err = err; {
	case errors.As(err, &throttled):
		v.Problem, v.RetryAfter = pages.Throttled, throttled.RetryAfter
		setRetryAfter(c, throttled.RetryAfter)
		s.pages.Device(c, http.StatusTooManyRequests, v)
		return
	case err != nil:
		s.unavailable(c, nil)
		return
	case !ok:
		s.pages.Device(c, http.StatusBadRequest, v)
		return
	}
	r := authorizations.NewDeviceRequest(code, d, nil)
	client, ok := s.resume(c, r)
	if ok {
		s.proceed(c, client, r, standing{})
	}
}

// approveDevice lets the device begin its session, and says so.
func (s *Server) approveDevice(c *gin.Context, client *clients.Client, l logins.Ref, r *authorizations.Request) error {
	err := s.authorizations.Approve(c.Request.Context(), client, l, r, request.From(c.Request.Context()).Origin)
	if err == nil {
		s.pages.Say(c, http.StatusOK, pages.DeviceAllowed)
	}
	return err
}

// waits tells whether a device waits still. It writes the answer itself where it does not: it has expired, or somebody else has decided.
func (s *Server) waits(c *gin.Context, r *authorizations.Request) bool {
	d, err := s.shownDevice(c, r)
	switch {
	case err != nil:
		s.fail(c, r, err)
	case d == nil:
		s.pages.Device(c, http.StatusBadRequest, pages.Device{Problem: pages.BadUserCode})
	}
	return d != nil
}

// shownDevice is what the page that asks shows of a device.
func (s *Server) shownDevice(c *gin.Context, r *authorizations.Request) (*pages.AskingDevice, error) {
	d, ok, err := s.authorizations.Device(c.Request.Context(), r.Device)
	if err != nil || !ok {
		return nil, err
	}
	return &pages.AskingDevice{UserCode: r.Device.String(), Address: d.Address, Agent: strings.TrimSpace(d.UserAgent), Age: time.Since(d.CreatedAt)}, nil
}
