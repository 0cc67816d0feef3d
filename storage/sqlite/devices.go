package sqlite

import (
	"context"
	"database/sql"

	"signet/audit"
	"signet/authorizations"
)

// CreateDeviceCode implements authorizations.DeviceStore.
func (s *Store) CreateDeviceCode(ctx context.Context, d authorizations.DeviceRequest) (bool, error) {
	_, err := s.exec(ctx, `INSERT INTO device_codes (session_id, digest, user_code, client_id, client_epoch, scope, audience, address, user_agent, pause, created_at, expires_at)
		VALUES (@session, @digest, @user_code, @client, @epoch, @scope, @audience, @address, @user_agent, @pause, @now, @now + @ttl)`, args{
		"session": d.Code.Session.String(), "digest": d.Code.Digest(), "user_code": d.UserCode, "client": d.Client.ID, "epoch": d.Client.Epoch,
		"scope": list(d.Scope), "audience": list(d.Audience), "address": d.Address, "user_agent": d.UserAgent,
		"pause": authorizations.DevicePause.Microseconds(), "ttl": authorizations.DeviceTTL.Microseconds(),
	})
	if unique(err) {
		return false, nil
	}
	return err == nil, err
}

// waiting is the one decision about a device d, given the row c: it waits for its user.
const waiting = `d.decision = '' AND ` + inTime

// inTime is what holds of it until it has expired or its client is another one, whatever its user has decided.
const inTime = `d.expires_at > @now AND c.id = d.client_id AND c.epoch = d.client_epoch AND NOT c.disabled`

// PendingDevice implements authorizations.DeviceStore.
func (s *Store) PendingDevice(ctx context.Context, userCode []byte) (authorizations.Device, bool, error) {
	return first(many(ctx, s, func(row *sql.Rows) (d authorizations.Device, err error) {
		err = row.Scan(&d.ClientID, fromList((*[]string)(&d.Scope)), fromList(&d.Audience), &d.Address, &d.UserAgent, moment{&d.CreatedAt})
		return d, err
	}, `SELECT d.client_id, d.scope, d.audience, d.address, d.user_agent, d.created_at FROM device_codes d, clients c
		WHERE d.user_code = @user_code AND `+waiting, args{"user_code": userCode}))
}

// ApproveDevice implements authorizations.DeviceStore.
func (s *Store) ApproveDevice(ctx context.Context, n authorizations.NewCode, userCode []byte, granted audit.Event) (userID string, approved bool, err error) {
	type device struct {
		session string
		digest  []byte
		end     int64
	}
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		d, found, err := oneIn(ctx, t, func(row *sql.Rows) (d device, err error) {
			err = row.Scan(&d.session, &d.digest, &d.end)
			return d, err
		}, `SELECT d.session_id, d.digest, d.expires_at FROM device_codes d, clients c
			WHERE d.user_code = @user_code AND d.client_id = @client AND `+waiting, args{"user_code": userCode, "client": n.Party.ClientID})
		if err != nil || !found {
			return err
		}
		if userID, approved, err = createCode(ctx, t, n, d.session, d.digest, d.end, granted); err != nil || !approved {
			return err
		}
		return t.exec(ctx, `UPDATE device_codes SET decision = 'approved' WHERE session_id = @session`, args{"session": d.session})
	})
	return userID, approved && err == nil, err
}

// DenyDevice implements authorizations.DeviceStore.
func (s *Store) DenyDevice(ctx context.Context, userCode []byte) (bool, error) {
	n, err := s.exec(ctx, `UPDATE device_codes AS d SET decision = 'denied'
		WHERE d.user_code = @user_code AND d.decision IN ('', 'denied') AND EXISTS (SELECT 1 FROM clients c WHERE `+inTime+`)`, args{"user_code": userCode})
	return n > 0, err
}

// PollDevice implements authorizations.DeviceStore.
func (s *Store) PollDevice(ctx context.Context, c authorizations.Code, clientID string, basic bool) (poll authorizations.Poll, err error) {
	type state struct {
		decision              string
		expired, early, again bool
	}
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		d, found, err := oneIn(ctx, t, func(row *sql.Rows) (d state, err error) {
			err = row.Scan(&d.decision, &d.expired, &d.early, &d.again)
			return d, err
		}, `SELECT decision, expires_at <= @now, coalesce(@now < polled_at + pause - @slack, 0),
				coalesce(@now < polled_at + @again AND polled_basic <> @basic, 0) FROM device_codes
			WHERE session_id = @session AND digest = @digest AND client_id = @client`,
			args{"session": c.Session.String(), "digest": c.Digest(), "client": clientID, "slack": authorizations.PollSlack.Microseconds(),
				"basic": basic, "again": authorizations.PollAgain.Microseconds()})
		session := args{"session": c.Session.String()}
		switch {
		case err != nil || !found:
			return err
		case d.decision == "denied":
			poll = authorizations.PollDenied
			return t.exec(ctx, `DELETE FROM device_codes WHERE session_id = @session`, session)
		case d.decision != "":
			return nil
		case d.expired:
			poll = authorizations.PollExpired
			return nil
		case d.again:
			poll = authorizations.PollPending
			return nil
		case d.early:
			poll = authorizations.PollTooSoon
			session["more"] = authorizations.DevicePause.Microseconds()
			return t.exec(ctx, `UPDATE device_codes SET pause = pause + @more WHERE session_id = @session`, session)
		default:
			poll = authorizations.PollPending
			session["basic"] = basic
			return t.exec(ctx, `UPDATE device_codes SET polled_at = @now, polled_basic = @basic WHERE session_id = @session`, session)
		}
	})
	return poll, err
}
