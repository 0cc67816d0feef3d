package console

import (
	"hash/fnv"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"signet/audit"
)

// sinces are how far back the audit page can look, in the order in which they are offered.
var sinces = []struct {
	Value, Label string
	length       time.Duration
}{
	{"", "any time", 0},
	{"1h", "the last hour", time.Hour},
	{"24h", "the last day", 24 * time.Hour},
	{"7d", "the last week", 7 * 24 * time.Hour},
	{"30d", "the last month", 30 * 24 * time.Hour},
}

// auditQuery is what the audit page is asked for.
type auditQuery struct {
	Type, User, Client, Since string
	Before                    string
	Paused                    bool
	known                     bool // the user
}

func (q auditQuery) pairs() []string {
	return []string{"type", q.Type, "user", q.User, "client", q.Client, "since", q.Since}
}

// eventRow is an event as a row shows it.
type eventRow struct {
	audit.Event

	ActorName, UserName string
	Bad                 bool
}

// events reads the page of events that the visit asks for.
func (s *Console) events(v *visit) (q auditQuery, rows []audit.Event, more bool, err error) {
	q = auditQuery{
		Type: v.Query("type"), User: strings.TrimSpace(v.Query("user")), Client: strings.TrimSpace(v.Query("client")),
		Since: v.Query("since"), Before: v.Query("before"), Paused: v.Query("live") == "off",
	}
	f := audit.Filter{Type: audit.Type(q.Type), ClientID: q.Client, Limit: pageSize + 1}
	if !slices.Contains(audit.Types, f.Type) {
		q.Type, f.Type = "", ""
	}
	for _, since := range sinces {
		if since.Value == q.Since {
			f.Since = since.length
		}
	}
	if f.Since == 0 {
		q.Since = ""
	}
	if before, err := uuid.Parse(q.Before); err == nil {
		f.Before = before.String()
	} else {
		q.Before = ""
	}
	if f.UserID, q.known, err = s.userID(v.ctx(), q.User); err != nil {
		return q, nil, false, err
	}
	rows, err = s.Audit.Events(v.ctx(), f)
	rows, more = cut(rows)
	return q, rows, more, err
}

func (s *Console) auditPage(v *visit) error {
	q, events, more, err := s.events(v)
	if err != nil {
		return err
	}
	var p pager
	if q.Before != "" {
		p.First = s.url("/audit", q.pairs()...)
	}
	if more {
		p.Next = s.url("/audit", append(q.pairs(), "before", events[len(events)-1].ID)...)
	}
	return s.show(v, http.StatusOK, "audit", page{Title: "Audit", Section: "Audit", Data: map[string]any{
		"Query": q, "Pager": p, "Types": audit.Types, "Sinces": sinces, "Live": q.Before == "", "Events": s.eventList(v, q, events),
		"Pause": s.url("/audit", append(q.pairs(), "live", "off")...), "Resume": s.url("/audit", q.pairs()...),
	}})
}

// eventList is what the list of events is made of, and what it asks for to follow.
func (s *Console) eventList(v *visit, q auditQuery, events []audit.Event) map[string]any {
	follow := ""
	if q.Before == "" && !q.Paused {
		follow = s.url("/audit/follow", append(q.pairs(), "seen", fingerprint(events))...)
	}
	return map[string]any{
		"Rows": s.named(v, events), "Follow": follow, "Filtered": q.Type+q.User+q.Client+q.Since != "", "UnknownUser": !q.known, "User": q.User,
	}
}

// fingerprint tells one page of events from another.
func fingerprint(events []audit.Event) string {
	h := fnv.New64a()
	for _, e := range events {
		_, _ = h.Write([]byte(e.ID))
	}
	if len(events) > 0 {
		return events[0].ID + "." + strconv.FormatUint(h.Sum64(), 36)
	}
	return "none"
}

// followAudit answers the script that follows the events: with nothing as long as there is nothing new.
func (s *Console) followAudit(v *visit) error {
	q, events, _, err := s.events(v)
	if err != nil {
		return err
	}
	seen := v.Query("seen")
	if seen == fingerprint(events) {
		v.Status(http.StatusNoContent)
		return nil
	}
	newest, _, _ := strings.Cut(seen, ".")
	fresh := slices.IndexFunc(events, func(e audit.Event) bool { return e.ID <= newest })
	if fresh < 0 {
		fresh = len(events)
	}
	s.render(v.Context, http.StatusOK, "audit-follow", page{Data: map[string]any{
		"Events": s.eventList(v, q, events), "Fresh": fresh,
	}})
	return nil
}

// named adds to events what the users and actors in them are called. Ids of users who are gone stay ids.
func (s *Console) named(v *visit, events []audit.Event) []eventRow {
	names := map[string]string{}
	name := func(id string) string {
		if _, err := uuid.Parse(id); err != nil {
			return id
		}
		if _, asked := names[id]; !asked {
			names[id] = id
			if u, err := s.Users.Get(v.ctx(), id); err == nil {
				names[id] = u.Username
			}
		}
		return names[id]
	}
	rows := make([]eventRow, len(events))
	for i, e := range events {
		bad := e.Type == audit.RefreshTokenReused || e.Type == audit.LoginThrottled
		rows[i] = eventRow{Event: e, ActorName: name(e.Actor), UserName: name(e.UserID), Bad: bad}
	}
	return rows
}
