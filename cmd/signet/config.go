package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/joho/godotenv"
	"golang.org/x/term"

	"signet/clients"
	"signet/keys"
	"signet/mail"
	"signet/server/playground"
	"signet/users"
)

// config is the configuration as the environment gives it. The tags are what `signet serve --help` and the reference in
// docs/configuration.md are made of.
type config struct {
	Issuer                string       `env:"SIGNET_ISSUER" envDefault:"http://localhost:8080" help:"the iss of tokens and the base of every published URL; https unless the host is loopback"`
	Listen                string       `env:"SIGNET_LISTEN" envDefault:"127.0.0.1:8080" help:"the public listener"`
	ManagementListen      string       `env:"SIGNET_MANAGEMENT_LISTEN" envDefault:"127.0.0.1:8081" help:"/metrics, /livez and /readyz; empty: off"`
	TLSCert               string       `env:"SIGNET_TLS_CERT" help:"a certificate file, to serve TLS itself; read again when it changes"`
	TLSKey                string       `env:"SIGNET_TLS_KEY" help:"the certificate's key file"`
	TrustedProxies        proxies      `env:"SIGNET_TRUSTED_PROXIES" help:"CIDRs, separated by commas, whose X-Forwarded-For is believed"`
	DatabaseURL           string       `env:"SIGNET_DATABASE_URL" help:"postgres://… (several hosts allowed) or sqlite:PATH; else DATABASE_URL; else the embedded SQLite in SIGNET_DATA_DIR"`
	DataDir               string       `env:"SIGNET_DATA_DIR" envDefault:"./signet-data" help:"the embedded database and its generated secret"`
	AutoMigrate           bool         `env:"SIGNET_AUTO_MIGRATE" envDefault:"true" help:"bring the schema up to date when starting; false: only signet migrate does"`
	Secret                string       `env:"SIGNET_SECRET" help:"32 random bytes in base64 (signet secret prints one), NEW,OLD while it is being changed; generated for the embedded database, required for Postgres"`
	AccessTTL             positive     `env:"SIGNET_ACCESS_TOKEN_TTL" envDefault:"15m" help:"life of an access token"`
	RefreshTTL            positive     `env:"SIGNET_REFRESH_TOKEN_TTL" envDefault:"30d" help:"idle life of a session"`
	SessionTTL            positive     `env:"SIGNET_SESSION_TTL" envDefault:"90d" help:"absolute life of a session"`
	LoginTTL              positive     `env:"SIGNET_LOGIN_TTL" envDefault:"30d" help:"how long users who stay signed in are; others are until the browser ends, and 12h at the most"`
	BrandName             string       `env:"SIGNET_BRAND_NAME" envDefault:"Signet" help:"the name that the login pages show"`
	BrandLogo             string       `env:"SIGNET_BRAND_LOGO" help:"a picture for the login pages: an SVG, PNG, JPEG or WebP file of at most 256 KiB"`
	BrandColor            string       `env:"SIGNET_BRAND_COLOR" help:"the colour of their buttons, such as #0a5cff"`
	RetryWindow           duration     `env:"SIGNET_REFRESH_RETRY_WINDOW" envDefault:"10s" help:"how long after its use a refresh token may be retried; 0: every second use is theft"`
	SigningAlg            algorithm    `env:"SIGNET_SIGNING_ALG" envDefault:"ES256" help:"ES256, RS256, PS256, EdDSA or HS256"`
	SigningSecret         string       `env:"SIGNET_SIGNING_SECRET" help:"the shared secret of HS256, at least 32 bytes"`
	KeyRotation           positive     `env:"SIGNET_KEY_ROTATION" envDefault:"30d" help:"how long a signing key signs"`
	LoginMaxFailures      int          `env:"SIGNET_LOGIN_MAX_FAILURES" envDefault:"10" help:"failed logins for one username or one address before they are throttled"`
	LoginWindow           positive     `env:"SIGNET_LOGIN_WINDOW" envDefault:"15m" help:"for how long failed logins count"`
	SecondFactor          policy       `env:"SIGNET_SECOND_FACTOR" envDefault:"optional" help:"who has to have a second factor: optional (nobody), admins or required (everybody)"`
	AuditRetention        positive     `env:"SIGNET_AUDIT_RETENTION" envDefault:"90d" help:"how long audit events are kept"`
	CookieDomain          string       `env:"SIGNET_COOKIE_DOMAIN" help:"Domain= of the cookie with a browser session's access token, such as example.com for an API at api.example.com"`
	FetchAllow            proxies      `env:"SIGNET_FETCH_ALLOW" help:"CIDRs, separated by commas, outside of the internet that addresses of clients (back-channel logout, jwks_uri, metadata documents) may lead to, also without TLS"`
	Registration          registration `env:"SIGNET_REGISTRATION" envDefault:"off" help:"who may register clients by themselves: off, token (who has an initial access token) or open (anybody, so many a day from an address)"`
	RegistrationScopes    scopes       `env:"SIGNET_REGISTRATION_SCOPES" envDefault:"openid profile email offline_access" help:"what those may ask for"`
	RegistrationAudiences audiences    `env:"SIGNET_REGISTRATION_AUDIENCES" help:"the resources, separated by commas, that their tokens may be for, besides the issuer"`
	ClientDocuments       bool         `env:"SIGNET_CLIENT_METADATA_DOCUMENTS" envDefault:"false" help:"a client id may be the https address of a document with the client's metadata, which is fetched; what those may ask for is as for clients that register themselves"`
	SMTPURL               string       `env:"SIGNET_SMTP_URL" help:"the mail server, smtps://user:password@host or smtp://user:password@host:587; unset: no mail is sent, and links are handed out"`
	MailFrom              mailFrom     `env:"SIGNET_MAIL_FROM" help:"the address that mails come from, such as Example <login@example.com>"`
	SignUp                signUp       `env:"SIGNET_SIGN_UP" envDefault:"off" help:"who may make an account: off, invited (who was invited may ask for the link again) or open (anybody with an address)"`
	DrainDelay            duration     `env:"SIGNET_DRAIN_DELAY" envDefault:"3s" help:"how long after SIGTERM requests are still taken, while /readyz says 503, so that load balancers notice first"`
	CORSOrigins           origins      `env:"SIGNET_CORS_ORIGINS" help:"browser origins, separated by commas, that may call /token, /revoke and /par"`
	LogFormat             logFormat    `env:"SIGNET_LOG_FORMAT" help:"text or json; unset: text on a terminal, else json"`
	LogLevel              logLevel     `env:"SIGNET_LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error"`
	secret                keys.Secret  // of Secret, or of the data directory's secret file
	unknown               []string     // names that begin with SIGNET_ and are no setting
	issuerGiven           bool         // Issuer is not the default
	databaseSetting       string       // the name of the setting that DatabaseURL is of
	terminal              io.Writer    // where mails are printed for want of a mail server; nil: nowhere

	playground *playground.Config // of signet dev; nil: there is none
}

// fileSettings are the secrets that NAME_FILE may give, as orchestrators mount them.
var fileSettings = []string{"SIGNET_SECRET", "SIGNET_SIGNING_SECRET", "SIGNET_DATABASE_URL", "SIGNET_SMTP_URL"}

// loadConfig reads the environment and a .env file in the working directory; the environment wins. Its errors name the
// setting and say what is allowed.
func loadConfig() (config, error) {
	environment, err := readEnvironment()
	if err != nil {
		return config{}, err
	}
	var cfg config
	if err := env.ParseWithOptions(&cfg, env.Options{Environment: environment}); err != nil {
		return config{}, explainParse(err)
	}
	if value, set := environment["SIGNET_MANAGEMENT_LISTEN"]; set && value == "" {
		cfg.ManagementListen = "" // the parser takes an empty value for the default
	}
	cfg.databaseSetting = "SIGNET_DATABASE_URL"
	if url := environment["DATABASE_URL"]; cfg.DatabaseURL == "" && url != "" {
		cfg.DatabaseURL, cfg.databaseSetting = url, "DATABASE_URL"
	}
	if cfg.DatabaseURL == "" {
		cfg.DatabaseURL = cfg.embeddedURL()
	}
	cfg.issuerGiven = environment["SIGNET_ISSUER"] != ""
	names := settings()
	for name := range environment {
		known := slices.ContainsFunc(names, func(s setting) bool { return s.name == name })
		if !known && strings.HasPrefix(name, "SIGNET_") {
			cfg.unknown = append(cfg.unknown, name)
		}
	}
	slices.Sort(cfg.unknown)
	return cfg, cfg.validate()
}

func (c *config) embeddedURL() string { return "sqlite:" + filepath.Join(c.DataDir, "signet.db") }

// embedded tells whether the database is the embedded one.
func (c *config) embedded() bool { return strings.HasPrefix(c.DatabaseURL, "sqlite:") }

// remarks are what somebody is to know who runs a command by hand, perhaps in another directory than the server's.
func (c *config) remarks() (lines []string) {
	for _, name := range c.unknown {
		lines = append(lines, name+" is no setting; signet serve --help lists them all")
	}
	if file, isNew := c.newDatabase(); isNew {
		lines = append(lines, "there is no database here yet, so a new one is made, "+file+"; a server elsewhere does not see it")
	}
	return lines
}

// newDatabase tells whether the embedded database, in that file, is still to be made.
func (c *config) newDatabase() (file string, isNew bool) {
	if !c.embedded() {
		return "", false
	}
	file = strings.TrimPrefix(strings.TrimPrefix(c.DatabaseURL, "sqlite:"), "//")
	return file, missing(file)
}

// badLine returns where what cannot be read begins in a file of settings: after the most lines that can be.
func badLine(path string) (line int) {
	content, _ := os.ReadFile(path)
	lines := strings.SplitAfter(string(content), "\n")
	for n := range lines {
		if _, err := godotenv.Unmarshal(strings.Join(lines[:n], "")); err == nil {
			line = n + 1
		}
	}
	return line
}

// readEnvironment merges the environment over .env and resolves the NAME_FILE settings. An empty setting counts as unset,
// but for SIGNET_MANAGEMENT_LISTEN, where it means off.
func readEnvironment() (map[string]string, error) {
	environment, err := godotenv.Read()
	if errors.Is(err, fs.ErrNotExist) {
		environment, err = map[string]string{}, nil
	}
	if unread := (*fs.PathError)(nil); errors.As(err, &unread) {
		return nil, fmt.Errorf(".env: %w; run this as the user that the server runs as", unread.Err)
	}
	if err != nil { // the parser's own error shows what it could not read, secrets included
		return nil, fmt.Errorf(".env: line %d is not of the form NAME=value, or a quotation that begins there does not end", badLine(".env"))
	}
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		environment[name] = value
	}
	for name, value := range environment {
		if value == "" && name != "SIGNET_MANAGEMENT_LISTEN" {
			delete(environment, name)
		}
	}
	for _, name := range fileSettings {
		file, ok := environment[name+"_FILE"]
		if !ok {
			continue
		}
		if _, both := environment[name]; both {
			return nil, fmt.Errorf("%s and %s_FILE are both set; set one of them", name, name)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s_FILE: %w", name, err)
		}
		value := strings.TrimRight(string(content), "\r\n")
		if value == "" {
			return nil, fmt.Errorf("%s_FILE: %s is empty", name, file)
		}
		environment[name] = value
		delete(environment, name+"_FILE")
	}
	return environment, nil
}

// explainParse turns the parser's error into one line that names the first bad setting.
func explainParse(err error) error {
	var all env.AggregateError
	if errors.As(err, &all) {
		for _, err := range all.Errors {
			var parse env.ParseError
			if errors.As(err, &parse) {
				if field, ok := reflect.TypeFor[config]().FieldByName(parse.Name); ok {
					what := parse.Err.Error()
					if number := (*strconv.NumError)(nil); errors.As(parse.Err, &number) { // of a plain bool or int
						what = fmt.Sprintf("%q must be a whole number", number.Num)
						if field.Type.Kind() == reflect.Bool {
							what = fmt.Sprintf("%q must be true or false", number.Num)
						}
					}
					return fmt.Errorf("%s: %s", field.Tag.Get("env"), what)
				}
			}
		}
	}
	return err
}

// issuerURL is what an issuer may be. It is compared as a text, and its path is a route.
var issuerURL = regexp.MustCompile(`^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?(/[A-Za-z0-9._~-]+)*$`)

// validPort tells whether a URL's port can be connected to; empty is the scheme's.
func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// validate checks what one setting's own syntax does not tell.
func (c *config) validate() error {
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.HasSuffix(c.Issuer, "/"):
		return fmt.Errorf("SIGNET_ISSUER: %q must be a URL such as https://auth.example.com, without query, fragment or slash at its end", c.Issuer)
	case !issuerURL.MatchString(c.Issuer) || !validPort(u.Port()) || u.Path != "" && path.Clean(u.Path) != u.Path:
		return fmt.Errorf("SIGNET_ISSUER: %q must have a host, a port of 1 to 65535 if any, and in its path letters, digits and - . _ ~ alone", c.Issuer)
	case u.Scheme == "http" && !clients.Loopback(u.Hostname()):
		return fmt.Errorf("SIGNET_ISSUER: %q must be https; http is for loopback hosts alone", c.Issuer)
	}
	for _, l := range []struct{ name, value string }{{"SIGNET_LISTEN", c.Listen}, {"SIGNET_MANAGEMENT_LISTEN", c.ManagementListen}} {
		if _, _, err := net.SplitHostPort(l.value); err != nil && l.value != "" {
			return fmt.Errorf("%s: %q must be host:port, such as 127.0.0.1:8080 or :8080", l.name, l.value)
		}
	}
	if err := c.validateCookieDomain(u.Hostname()); err != nil {
		return err
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("SIGNET_TLS_CERT and SIGNET_TLS_KEY go together; one of them is not set")
	}
	if (c.SigningAlg == algorithm(keys.HS256) || c.SigningSecret != "") && len(c.SigningSecret) < keys.MinSigningSecret {
		return fmt.Errorf("SIGNET_SIGNING_SECRET: HS256 needs a secret of at least %d bytes", keys.MinSigningSecret)
	}
	if err := c.validateMail(); err != nil {
		return err
	}
	if c.LoginMaxFailures < 1 || c.LoginMaxFailures > 1000 {
		return errors.New("SIGNET_LOGIN_MAX_FAILURES: must be 1 to 1000")
	}
	if c.Secret != "" {
		if c.secret, err = keys.ParseSecret(c.Secret); err != nil {
			return fmt.Errorf("SIGNET_SECRET: %w", err)
		}
	}
	if scheme, _, _ := strings.Cut(c.DatabaseURL, ":"); scheme != "postgres" && scheme != "postgresql" && scheme != "sqlite" {
		return errors.New(c.databaseSetting + ": must begin with postgres:// or sqlite:")
	}
	if !c.embedded() && unescaped(c.DatabaseURL) {
		return errors.New(c.databaseSetting + ": in a password / # ? % and @ are written as %2F %23 %3F %25 and %40")
	}
	return nil
}

// unescaped tells whether the password in the URL holds a character that ends it early: an @ follows where none can be.
func unescaped(databaseURL string) bool {
	_, rest, _ := strings.Cut(databaseURL, "://")
	rest, _, _ = strings.Cut(rest, "?")
	end := strings.IndexAny(rest, "/#")
	return end >= 0 && strings.Contains(rest[end:], "@")
}

// validateMail wants all that it takes to send mails, or nothing.
func (c *config) validateMail() error {
	switch {
	case c.SMTPURL == "" && c.MailFrom == "":
		return nil
	case c.SMTPURL == "":
		return errors.New("SIGNET_SMTP_URL: is needed beside SIGNET_MAIL_FROM")
	case c.MailFrom == "":
		return errors.New("SIGNET_MAIL_FROM: is needed beside SIGNET_SMTP_URL")
	}
	if _, err := mail.NewSMTP(c.SMTPURL, string(c.MailFrom)); err != nil {
		return fmt.Errorf("SIGNET_SMTP_URL: %w", err)
	}
	return nil
}

// mailer returns what sends mails, or nil where none are sent.
func (c *config) mailer() (mail.Sender, error) {
	if c.SMTPURL != "" {
		s, err := mail.NewSMTP(c.SMTPURL, string(c.MailFrom))
		if err != nil {
			return nil, fmt.Errorf("SIGNET_SMTP_URL: %w", err)
		}
		return s, nil
	}
	if c.terminal != nil {
		return mail.Printer{W: c.terminal}, nil
	}
	return nil, nil
}

// needMailer makes sure that there are mails where people sign up by them.
func (c *config) needMailer() error {
	if c.SMTPURL == "" && c.terminal == nil && c.SignUp == signUp(users.SignUpOpen) {
		return errors.New("SIGNET_SIGN_UP: open needs mails, which confirm addresses: set SIGNET_SMTP_URL and SIGNET_MAIL_FROM")
	}
	return nil
}

// domainName is what a cookie's Domain may be.
var domainName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z]([a-z0-9-]*[a-z0-9])?$`)

// validateCookieDomain wants a domain that the issuer's host is in: browsers drop a cookie for any other (RFC 6265 section 5.3).
// On loopback, for development, the server may be reached by other names.
func (c *config) validateCookieDomain(host string) error {
	d := c.CookieDomain
	switch {
	case d == "":
	case !domainName.MatchString(d):
		return fmt.Errorf("SIGNET_COOKIE_DOMAIN: %q must be a domain name in lower case, such as example.com", d)
	case host != d && !strings.HasSuffix(host, "."+d) && !clients.Loopback(host):
		return fmt.Errorf("SIGNET_COOKIE_DOMAIN: %q must be a domain that the host of SIGNET_ISSUER, %s, is in", d, host)
	}
	return nil
}

// needSecret makes sure that there is a secret: that of the embedded database is generated at the first use and kept beside it.
func (c *config) needSecret() error {
	if c.Secret != "" {
		return nil
	}
	if !c.embedded() {
		return errors.New("SIGNET_SECRET: required for Postgres: 32 random bytes in base64; `signet secret` prints one")
	}
	file := filepath.Join(c.DataDir, "secret")
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("SIGNET_DATA_DIR: %w", err)
	}
	// O_EXCL: of several first starts at once one makes the secret.
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = f.WriteString(keys.NewSecret() + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("SIGNET_DATA_DIR: %w", err)
	}
	for range 50 { // another process may be between making the file and writing it
		var content []byte
		if content, err = os.ReadFile(file); err != nil {
			return fmt.Errorf("SIGNET_DATA_DIR: %w", err)
		}
		if c.secret, err = keys.ParseSecret(strings.TrimSpace(string(content))); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s: %w", file, err)
}

// logger writes to standard error as configured.
func (c *config) logger() *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.Level(c.LogLevel)}
	if c.LogFormat == "text" || c.LogFormat == "" && term.IsTerminal(int(os.Stderr.Fd())) {
		return slog.New(slog.NewTextHandler(os.Stderr, options))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, options))
}
