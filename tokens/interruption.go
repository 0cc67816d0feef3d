package tokens

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"signet/audit"
)

// Interruption is a time in which the database was away, or every replica. It lasts from the last heartbeat before to the first one
// after.
type Interruption struct {
	Began, Ended time.Time
}

// Length is how long the interruption lasted.
func (i Interruption) Length() time.Duration { return i.Ended.Sub(i.Began) }

const (
	// HeartbeatInterval is how often one of the replicas renews the heartbeat.
	HeartbeatInterval = time.Second
	// HeartbeatGap is how old a heartbeat is that tells of an interruption.
	HeartbeatGap = 3 * time.Second
	// InterruptionLead is how long before the last heartbeat a use may have been whose answer the interruption swallowed.
	InterruptionLead = 2 * time.Second
)

// heartbeatTimeout bounds a heartbeat, so that one that is stuck does not hold up the next.
const heartbeatTimeout = 2 * time.Second

// Watch renews the heartbeat until ctx ends, and tells report, which may be nil, of the interruptions that it is the first to see.
func (s *Service) Watch(ctx context.Context, report func(Interruption)) {
	tick := time.NewTicker(HeartbeatInterval)
	defer tick.Stop()
	for {
		if i, ok, err := s.beat(ctx); err != nil && ctx.Err() == nil {
			s.log.DebugContext(ctx, "cannot renew the heartbeat", "error", err)
		} else if ok && report != nil {
			report(i)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// beat renews the heartbeat, and tells of the interruption that has ended with it, if any.
func (s *Service) beat(ctx context.Context) (Interruption, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()
	e := audit.New(audit.ServiceInterrupted, audit.Origin{Actor: "server"})
	i, ok, err := s.store.Beat(ctx, e)
	if err != nil || !ok {
		return Interruption{}, false, err
	}
	e.Detail = fmt.Sprintf("%.1f s", i.Length().Seconds())
	e.Log(ctx, s.log.With(slog.Time("began", i.Began)))
	return i, true, nil
}
