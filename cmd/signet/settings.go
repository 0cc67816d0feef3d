package main

import (
	"fmt"
	"log/slog"
	netmail "net/mail"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/xhit/go-str2duration/v2"

	"signet/clients"
	"signet/keys"
	"signet/logins"
	"signet/users"
)

// setting is one setting, as its field's tags describe it.
type setting struct{ name, value, help string }

func settings() []setting {
	var list []setting
	for _, f := range reflect.VisibleFields(reflect.TypeFor[config]()) {
		if name, ok := f.Tag.Lookup("env"); ok {
			list = append(list, setting{name, f.Tag.Get("envDefault"), f.Tag.Get("help")})
		}
	}
	return list
}

// settingsHelp is the list of all settings for a terminal.
func settingsHelp() string {
	var b strings.Builder
	b.WriteString("Configuration, from the environment or a .env file in the working directory (durations: 15m, 12h, 30d):\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, s := range settings() {
		help := s.help
		if s.value != "" {
			help += " (default " + s.value + ")"
		}
		fmt.Fprintf(w, "  %s\t%s\n", s.name, help)
	}
	_ = w.Flush()
	b.WriteString("\nNAME_FILE reads " + strings.Join(fileSettings, ", ") + " from a file.\n")
	b.WriteString("OTEL_EXPORTER_OTLP_ENDPOINT turns on traces (OpenTelemetry, OTLP over HTTP).\n")
	return b.String()
}

// maxDuration bounds every duration, so that no date computed with one leaves the calendar.
const maxDuration = 100 * 365 * 24 * time.Hour

// duration is a time.Duration that is not negative, written as 15m, 12h or 30d.
type duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(text []byte) error {
	v, err := str2duration.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q must be a duration such as 15m, 12h or 30d", text)
	}
	if v > maxDuration {
		return fmt.Errorf("%q must be at most 36500d", text)
	}
	*d = duration(v)
	return nil
}

// String, Set and Type make it a flag's value.
func (d *duration) String() string     { return str2duration.String(time.Duration(*d)) }
func (d *duration) Set(s string) error { return d.UnmarshalText([]byte(s)) }
func (d *duration) Type() string       { return "duration" }

// positive is a duration of at least a second.
type positive time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *positive) UnmarshalText(text []byte) error {
	var d duration
	if err := d.UnmarshalText(text); err != nil {
		return err
	}
	if time.Duration(d) < time.Second {
		return fmt.Errorf("%q must be at least 1s", text)
	}
	*p = positive(d)
	return nil
}

type algorithm keys.Algorithm

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *algorithm) UnmarshalText(text []byte) error {
	v, err := keys.ParseAlgorithm(string(text))
	*a = algorithm(v)
	return err
}

type proxies []netip.Prefix

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *proxies) UnmarshalText(text []byte) error {
	for part := range strings.SplitSeq(string(text), ",") {
		part = strings.TrimSpace(part)
		prefix, err := netip.ParsePrefix(part)
		if addr, addrErr := netip.ParseAddr(part); addrErr == nil {
			prefix, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			return fmt.Errorf("%q must be an address or a CIDR such as 10.0.0.0/8", part)
		}
		*p = append(*p, prefix)
	}
	return nil
}

type origins []string

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *origins) UnmarshalText(text []byte) error {
	for part := range strings.SplitSeq(string(text), ",") {
		part = strings.TrimSpace(part)
		if problem := clients.CheckOrigin(part); problem != "" {
			return fmt.Errorf("%q %s", part, problem)
		}
		*o = append(*o, part)
	}
	return nil
}

type registration clients.RegistrationMode

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *registration) UnmarshalText(text []byte) error {
	*r = registration(text)
	if !slices.Contains(clients.RegistrationModes, clients.RegistrationMode(text)) {
		return fmt.Errorf("%q must be off, token or open", text)
	}
	return nil
}

type scopes clients.Scope

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *scopes) UnmarshalText(text []byte) error {
	list, err := clients.ParseScope(string(text))
	if err != nil {
		return fmt.Errorf("%q must be scopes, separated by spaces", text)
	}
	for _, token := range list {
		if clients.Reserved(token) {
			return fmt.Errorf("%q is not for clients that register themselves", token)
		}
	}
	*s = scopes(list)
	return nil
}

type audiences []string

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *audiences) UnmarshalText(text []byte) error {
	for part := range strings.SplitSeq(string(text), ",") {
		part = strings.TrimSpace(part)
		if problem := clients.CheckAudience(part); problem != "" {
			return fmt.Errorf("%q %s", part, problem)
		}
		*a = append(*a, part)
	}
	return nil
}

type signUp users.SignUp

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *signUp) UnmarshalText(text []byte) error {
	*s = signUp(text)
	if !slices.Contains(users.SignUps, users.SignUp(text)) {
		return fmt.Errorf("%q must be off, invited or open", text)
	}
	return nil
}

type mailFrom string

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *mailFrom) UnmarshalText(text []byte) error {
	if _, err := netmail.ParseAddress(string(text)); err != nil {
		return fmt.Errorf("%q must be an address such as login@example.com or Example <login@example.com>", text)
	}
	*m = mailFrom(text)
	return nil
}

type logFormat string

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *logFormat) UnmarshalText(text []byte) error {
	*f = logFormat(text)
	if *f != "text" && *f != "json" {
		return fmt.Errorf("%q must be text or json", text)
	}
	return nil
}

type logLevel slog.Level

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *logLevel) UnmarshalText(text []byte) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[string(text)]
	if !ok {
		return fmt.Errorf("%q must be debug, info, warn or error", text)
	}
	*l = logLevel(level)
	return nil
}

type policy logins.Policy

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *policy) UnmarshalText(text []byte) error {
	switch v := logins.Policy(text); v {
	case logins.Optional, logins.Admins, logins.Required:
		*p = policy(v)
		return nil
	default:
		return fmt.Errorf("%q is none of optional, admins and required", text)
	}
}
