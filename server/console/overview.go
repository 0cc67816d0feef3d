package console

import (
	"net/http"
	"time"

	"signet/activity"
	"signet/clients"
)

// period is a stretch of time that the overview shows, in steps.
type period struct {
	Name, Label string
	steps       int
	step        time.Duration
	axis        string // how the script writes the times below a chart
}

var periods = []period{
	{"hour", "Last hour", 12, 5 * time.Minute, "time"},
	{"day", "Last day", 96, 15 * time.Minute, "time"},
	{"week", "Last week", 84, 2 * time.Hour, "day"},
	{"month", "Last month", 120, 6 * time.Hour, "day"},
}

// column is one thing that the overview counts.
type column struct {
	Kind   activity.Kind
	Label  string
	Number int64 // the sum; of live sessions, how many there are
	About  string
	Bad    bool // none is best
}

// row is what happened in one step, in the order of the columns. Nil: nobody looked.
type row struct {
	Start  time.Time
	Counts []*int64
}

func (s *Console) overview(v *visit) error {
	chosen := periods[1]
	for _, p := range periods {
		if p.Name == v.Query("range") {
			chosen = p
		}
	}
	points, err := s.Activity.Activity(v.ctx(), time.Duration(chosen.steps)*chosen.step, chosen.step)
	if err != nil {
		return err
	}
	latest, err := s.Activity.Activity(v.ctx(), 2*activity.Bucket, activity.Bucket)
	if err != nil {
		return err
	}
	some, err := s.Clients.List(v.ctx(), clients.Filter{Limit: 2}) // the console, and one more if there is one
	if err != nil {
		return err
	}
	columns := []column{
		{Kind: activity.LiveSessions, Label: "Live sessions", About: "at the last count, which is made every five minutes"},
		{Kind: activity.Logins, Label: "Logins", About: "with a password"},
		{Kind: activity.Refreshes, Label: "Refreshes", About: "of tokens, by refresh token"},
		{Kind: activity.LoginFailures, Label: "Failed logins", About: "wrong, unknown, disabled or throttled", Bad: true},
		{Kind: activity.Reuses, Label: "Reuse alarms", About: "spent refresh tokens that came back", Bad: true},
	}
	rows := fill(points, chosen, columns, v.access.Now)
	var interruptions int64
	for _, p := range points {
		interruptions += p.Counts[activity.Interruptions]
	}
	counted := false // by anybody, in the last few minutes
	for _, p := range latest {
		// None is out of date: there is that of whoever looks.
		if n := p.Counts[activity.LiveSessions]; n > 0 {
			columns[0].Number, counted = n, true
		}
	}
	return s.show(v, http.StatusOK, "overview", page{Title: "Overview", Section: "Overview", Data: map[string]any{
		"Periods": periods, "Chosen": chosen, "Axis": chosen.axis, "Columns": columns, "Rows": rows, "Counted": counted,
		"Quiet": len(points) == 0, "NoClients": onlyConsole(some), "Reuses": columns[4].Number, "Since": chosen.since(),
		"Interruptions": interruptions,
	}})
}

// since is the choice on the page of audit events that covers the period.
func (p period) since() string {
	return map[string]string{"hour": "1h", "day": "24h", "week": "7d", "month": "30d"}[p.Name]
}

// fill makes a row for every step up to now, those in which nothing happened among them, and adds up the columns.
func fill(points []activity.Point, p period, columns []column, now time.Time) (rows []row) {
	byStart := map[int64]activity.Point{}
	for _, point := range points {
		byStart[point.Start.Unix()] = point
	}
	for i := range p.steps {
		r := row{Start: now.UTC().Truncate(p.step).Add(time.Duration(i-p.steps+1) * p.step)}
		for c := range columns {
			n, there := byStart[r.Start.Unix()].Counts[columns[c].Kind]
			if columns[c].Kind == activity.LiveSessions && !there {
				r.Counts = append(r.Counts, nil) // nobody looked
				continue
			}
			columns[c].Number += n // live sessions are not added up: their number is set afterwards
			r.Counts = append(r.Counts, &n)
		}
		rows = append(rows, r)
	}
	return rows
}
