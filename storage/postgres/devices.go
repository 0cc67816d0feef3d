package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"signet/audit"
	"signet/authorizations"
)

// CreateDeviceCode implements authorizations.DeviceStore.
func (s *Store) CreateDeviceCode(ctx context.Context, d authorizations.DeviceRequest) (bool, error) {
	_, err := s.exec(ctx, `INSERT INTO device_codes (session_id, digest, user_code, client_id, client_epoch, scope, audience, address, user_agent, pause, expires_at)
		VALUES (@session, @digest, @user_code, @client, @epoch, @scope, @audience, @address, @user_agent, @pause, now() + @ttl::interval)
		ON CONFLICT (session_id) DO NOTHING -- a repetition after a lost answer`, named{
		"session": [16]byte(d.Code.Session), "digest": d.Code.Digest(), "user_code": d.UserCode, "client": d.Client.ID, "epoch": d.Client.Epoch,
		"scope": list(d.Scope), "audience": list(d.Audience), "address": d.Address, "user_agent": d.UserAgent,
		"pause": authorizations.DevicePause, "ttl": authorizations.DeviceTTL,
	})
	if violates(err, "device_codes_user_code_key") {
		return false, nil
	}
	return err == nil, err
}

// waiting is the one decision about a device d, given the row c: it waits for its user.
const waiting = `d.decision = '' AND ` + inTime

// inTime is what holds of it until it has expired or its client is another one, whatever its user has decided.
const inTime = `d.expires_at > now() AND c.id = d.client_id AND c.epoch = d.client_epoch AND NOT c.disabled`

// PendingDevice implements authorizations.DeviceStore.
func (s *Store) PendingDevice(ctx context.Context, userCode []byte) (authorizations.Device, bool, error) {
	return one(ctx, s, func(row pgx.CollectableRow) (d authorizations.Device, err error) {
		err = row.Scan(&d.ClientID, (*[]string)(&d.Scope), &d.Audience, &d.Address, &d.UserAgent, &d.CreatedAt)
		d.CreatedAt = d.CreatedAt.UTC()
		return d, err
	}, `SELECT d.client_id, d.scope, d.audience, d.address, d.user_agent, d.created_at FROM device_codes d, clients c
		WHERE d.user_code = @user_code AND `+waiting, named{"user_code": userCode})
}

// ApproveDevice implements authorizations.DeviceStore.
func (s *Store) ApproveDevice(ctx context.Context, n authorizations.NewCode, userCode []byte, granted audit.Event) (userID string, ok bool, err error) {
	userID, err = run(ctx, s, false, func(ctx context.Context) (userID string, err error) {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			var session [16]byte
			var digest []byte
			var left time.Duration
			err := tx.QueryRow(ctx, `UPDATE device_codes d SET decision = 'approved' FROM clients c
				WHERE d.user_code = $1 AND d.client_id = $2 AND `+waiting+` RETURNING d.session_id, d.digest, d.expires_at - now()`,
				userCode, n.Party.ClientID).Scan(&session, &digest, &left)
			if err != nil {
				return err
			}
			// Where there is no row the login or the client has changed, and the device waits on.
			return tx.QueryRow(ctx, createCode, with(granted, codeArgs(n, session, digest, left))).Scan(&userID)
		})
		return userID, err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return "", false, nil
	}
	return userID, err == nil, err
}

// DenyDevice implements authorizations.DeviceStore.
func (s *Store) DenyDevice(ctx context.Context, userCode []byte) (bool, error) {
	n, err := s.exec(ctx, `UPDATE device_codes d SET decision = 'denied' FROM clients c
		WHERE d.user_code = @user_code AND d.decision IN ('', 'denied') AND `+inTime, named{"user_code": userCode})
	return n > 0, err
}

// PollDevice implements authorizations.DeviceStore.
func (s *Store) PollDevice(ctx context.Context, c authorizations.Code, clientID string, basic bool) (poll authorizations.Poll, err error) {
	return run(ctx, s, true, func(ctx context.Context) (poll authorizations.Poll, err error) {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			args := named{
				"session": [16]byte(c.Session), "digest": c.Digest(), "client": clientID, "slack": authorizations.PollSlack, "more": authorizations.DevicePause,
				"basic": basic, "again": authorizations.PollAgain,
			}
			var decision string
			var expired, early, again bool
			err := tx.QueryRow(ctx, `SELECT decision, expires_at <= now(), coalesce(now() < polled_at + pause - @slack::interval, false),
					coalesce(now() < polled_at + @again::interval AND polled_basic <> @basic, false) FROM device_codes
				WHERE session_id = @session AND digest = @digest AND client_id = @client FOR UPDATE`, args).Scan(&decision, &expired, &early, &again)
			var change string
			switch {
			case errors.Is(err, pgx.ErrNoRows):
				return nil
			case err != nil:
				return err
			case decision == "denied":
				poll, change = authorizations.PollDenied, `DELETE FROM device_codes WHERE session_id = @session`
			case decision != "":
				return nil
			case expired:
				poll = authorizations.PollExpired
				return nil
			case again:
				poll = authorizations.PollPending
				return nil
			case early:
				poll, change = authorizations.PollTooSoon, `UPDATE device_codes SET pause = pause + @more::interval WHERE session_id = @session`
			default:
				poll, change = authorizations.PollPending, `UPDATE device_codes SET polled_at = now(), polled_basic = @basic WHERE session_id = @session`
			}
			_, err = tx.Exec(ctx, change, args)
			return err
		})
		return poll, err
	})
}
