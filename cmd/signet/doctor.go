package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"signet/keys"
	"signet/mail"
)

func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check the configuration and what it leads to, and say what is wrong and how to mend it", Args: cobra.NoArgs,
		Long: `Check the configuration, the database, its clock and schema, the signing keys, the certificate, the address of the issuer, the
proxies, and the mail server. Nothing is changed, made or sent. Run it where the server runs, in its environment, before the first start or
when something is odd. The exit code is 1 if anything is wrong; what is only worth a look is no failure.`,
	}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		d := doctor{findings: []finding{}}
		d.examine(cmd.Context())
		p := out.printer(cmd)
		if err := d.print(p); err != nil {
			return err
		}
		if n := d.count(wrong); n > 0 {
			return fmt.Errorf("%d of %d checks found something wrong", n, len(d.findings))
		}
		return nil
	})
	return cmd
}

// How a check ended.
const (
	fine  = "ok"
	look  = "look"  // it works, and may not be what is wanted
	wrong = "wrong" // it does not work
)

// finding is what a check found.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Found  string `json:"found"`
	Mend   string `json:"mend,omitempty"`
}

// doctor examines one thing after the other; what cannot be looked at because of what was found before is left out.
type doctor struct {
	cfg      config
	kids     []string // of the database's keys; nil: it was not asked, or has none
	findings []finding
}

func (d *doctor) say(result, check, found, mend string) {
	d.findings = append(d.findings, finding{check, result, strings.Join(strings.Fields(found), " "), mend})
}

func (d *doctor) count(result string) (n int) {
	for _, f := range d.findings {
		if f.Result == result {
			n++
		}
	}
	return n
}

func (d *doctor) print(p printer) error {
	if p.json {
		return p.encode(map[string]any{"items": d.findings})
	}
	w := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	for _, f := range d.findings {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Result, f.Check, f.Found)
		if f.Mend != "" {
			fmt.Fprintf(w, "\t\t-> %s\n", f.Mend)
		}
	}
	return w.Flush()
}

func (d *doctor) examine(ctx context.Context) {
	cfg, err := loadConfig()
	if err != nil {
		d.say(wrong, "configuration", err.Error(), "signet serve --help lists the settings")
		return
	}
	d.cfg = cfg
	d.configuration()
	d.database(ctx)
	d.certificate()
	d.proxies()
	d.issuer(ctx)
	d.mail(ctx)
}

func (d *doctor) configuration() {
	if _, err := d.cfg.pages(false, false); err != nil {
		d.say(wrong, "configuration", err.Error(), "signet serve --help lists the settings")
		return
	}
	if len(d.cfg.unknown) > 0 {
		d.say(look, "configuration", "unknown: "+strings.Join(d.cfg.unknown, ", "), "a slip of the pen? signet serve --help lists the settings")
		return
	}
	d.say(fine, "configuration", "every setting is known and readable", "")
}

// database looks at the database, and with it at what can be asked of it alone.
func (d *doctor) database(ctx context.Context) {
	if d.cfg.embedded() {
		// Who only looks makes neither file.
		file, isNew := d.cfg.newDatabase()
		secret := filepath.Join(d.cfg.DataDir, "secret")
		switch {
		case isNew:
			d.say(fine, "database", file+" is not there yet; the first start makes it", "")
			return
		case d.cfg.Secret == "" && missing(secret):
			d.say(wrong, "keys", secret+" is missing, which opens the keys in "+file, "put the file back from the backup, or set SIGNET_SECRET to what it held")
			return
		}
	}
	a, err := newApp(ctx, d.cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		// That the settings are readable is not enough.
		d.findings = slices.DeleteFunc(d.findings, func(f finding) bool { return f.Check == "configuration" && f.Result == fine })
		d.say(wrong, "configuration", err.Error(), "")
		return
	}
	defer a.store.Close()
	defer a.caller.Close()

	first := time.Now() // connects
	version, readOnly, _, err := a.store.Server(ctx)
	connecting := time.Since(first)
	if err != nil {
		d.say(wrong, "database", err.Error(), "check SIGNET_DATABASE_URL, where @ : / in a password are percent-encoded, and that the database is up and lets this machine in")
		return
	}
	before := time.Now()
	_, _, now, err := a.store.Server(ctx)
	trip := time.Since(before)
	if err != nil {
		d.say(wrong, "database", err.Error(), "the connection broke at once: look at the database's log")
		return
	}
	found := fmt.Sprintf("%s, %s to connect, %s a round trip", version, connecting.Round(100*time.Microsecond), trip.Round(10*time.Microsecond))
	switch {
	case readOnly:
		d.say(wrong, "database", found+", and it takes no writes", "it is a standby: name all hosts in SIGNET_DATABASE_URL and add target_session_attrs=read-write")
	case trip > 20*time.Millisecond:
		d.say(look, "database", found, "every refresh and introspection waits for one round trip: put the server nearer to the database")
	default:
		d.say(fine, "database", found, "")
	}
	d.clock(now, before.Add(trip/2))
	d.schemaAndKeys(ctx, a)
}

func missing(file string) bool {
	_, err := os.Stat(file)
	return errors.Is(err, fs.ErrNotExist)
}

// clock compares the database's clock, by which sessions live, with this machine's, by which other programs read tokens.
func (d *doctor) clock(database, here time.Time) {
	apart := here.Sub(database)
	found := fmt.Sprintf("%s apart from the database's", apart.Abs().Round(time.Millisecond))
	switch mend := "keep both machines' clocks with NTP (chrony, systemd-timesyncd)"; {
	case apart.Abs() > 30*time.Second:
		d.say(wrong, "clock", found, mend)
	case apart.Abs() > time.Second:
		d.say(look, "clock", found, mend)
	default:
		d.say(fine, "clock", found, "")
	}
}

func (d *doctor) schemaAndKeys(ctx context.Context, a *app) {
	have, want, err := a.store.Schema(ctx)
	found := fmt.Sprintf("version %d; this program wants %d", have, want)
	switch {
	case err != nil:
		d.say(wrong, "schema", err.Error(), "may the database's user read the tables? It has to own them")
		return
	case have < want && d.cfg.AutoMigrate:
		if err := a.store.CanMigrate(ctx); err != nil {
			d.say(wrong, "schema", err.Error(), "")
			return
		}
		d.say(fine, "schema", found+", and brings it there when it starts", "")
		return // the tables may not be there yet
	case have < want:
		d.say(wrong, "schema", found, "run signet migrate")
		return
	case have > want:
		d.say(look, "schema", found, "a newer version of Signet has been here; this one goes on working beside it during an upgrade")
	default:
		d.say(fine, "schema", found, "")
	}
	switch n, err := a.keys.Check(ctx); {
	case errors.Is(err, keys.ErrWrongSecret):
		d.say(wrong, "keys", err.Error(), "give SIGNET_SECRET the value that this database was begun with; while it is being changed, both: NEW,OLD")
	case err != nil:
		d.say(wrong, "keys", err.Error(), "")
	case n == 0:
		d.say(fine, "keys", "none yet; the first start makes them", "")
	default:
		d.say(fine, "keys", fmt.Sprintf("SIGNET_SECRET opens all %d", n), "")
	}
	list, err := a.keys.List(ctx)
	if err != nil {
		return // said above
	}
	for _, k := range list {
		d.kids = append(d.kids, k.ID)
	}
}

// certificate looks at the one that the server itself serves TLS with.
func (d *doctor) certificate() {
	if d.cfg.TLSCert == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(d.cfg.TLSCert, d.cfg.TLSKey)
	if err != nil {
		d.say(wrong, "certificate", err.Error(), "SIGNET_TLS_CERT and SIGNET_TLS_KEY have to be a PEM certificate chain and its key, readable for this user")
		return
	}
	d.judge("certificate", pair.Leaf)
}

// judge says whether a certificate is good for the issuer's host, and for how long.
func (d *doctor) judge(check string, leaf *x509.Certificate) {
	issuer, _ := url.Parse(d.cfg.Issuer) // checked when it was read
	left := time.Until(leaf.NotAfter)
	found := fmt.Sprintf("for %s until %s", strings.Join(append(leaf.DNSNames, addresses(leaf.IPAddresses)...), ", "), leaf.NotAfter.Format(time.DateOnly))
	switch {
	case left < 0:
		d.say(wrong, check, found+", which is over", "renew it; the server reads the files again when they change")
	case leaf.VerifyHostname(issuer.Hostname()) != nil:
		d.say(wrong, check, found+", not for "+issuer.Hostname(), "get one for the host of SIGNET_ISSUER")
	case left < 14*24*time.Hour:
		d.say(look, check, found, "renew it soon")
	default:
		d.say(fine, check, found, "")
	}
}

func addresses(ips []net.IP) (list []string) {
	for _, ip := range ips {
		list = append(list, ip.String())
	}
	return list
}

// proxies asks whether the throttles see the addresses of clients or the proxy's.
func (d *doctor) proxies() {
	issuer, _ := url.Parse(d.cfg.Issuer)
	everyone := false
	for _, p := range d.cfg.TrustedProxies {
		everyone = everyone || p.Bits() == 0
	}
	switch {
	case everyone:
		d.say(look, "proxies", "SIGNET_TRUSTED_PROXIES believes everybody", "anybody can then choose the address that failed logins are counted for: name the proxies' own addresses")
	case issuer.Scheme == "https" && d.cfg.TLSCert == "" && len(d.cfg.TrustedProxies) == 0:
		d.say(look, "proxies", "TLS seems to end at a proxy, and SIGNET_TRUSTED_PROXIES is not set",
			"all clients then count as one address, the proxy's, for failed logins: name it")
	case len(d.cfg.TrustedProxies) > 0:
		list := make([]string, 0, len(d.cfg.TrustedProxies))
		for _, p := range []netip.Prefix(d.cfg.TrustedProxies) {
			list = append(list, p.String())
		}
		d.say(fine, "proxies", "trusted: "+strings.Join(list, ", "), "")
	default:
		d.say(fine, "proxies", "none", "")
	}
}

// issuer asks for the discovery document, and for the keys, as a client would.
func (d *doctor) issuer(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	address := d.cfg.Issuer + "/.well-known/openid-configuration"
	var document struct {
		Issuer string `json:"issuer"`
	}
	got, err := fetchDocument(ctx, address, &document)
	if err != nil {
		// Neither is a failure before the first start, or where the machine cannot reach the public name.
		mend := "is the server running? Clients have to reach it at this address; this machine need not"
		if unverified := new(tls.CertificateVerificationError); errors.As(err, &unverified) {
			mend = "clients that do not know its authority are refused as well"
		}
		d.say(look, "issuer", err.Error(), mend)
		return
	}
	switch {
	case got.code == http.StatusServiceUnavailable:
		d.say(look, "issuer", address+" answers 503", "the server is there and has no database yet")
	case got.code != http.StatusOK || got.unreadable != nil:
		d.say(wrong, "issuer", fmt.Sprintf("%s answers %s, not Signet's metadata", address, got.status), "something else is at SIGNET_ISSUER: look at the proxy's routes; paths must reach the server unchanged")
	case document.Issuer != d.cfg.Issuer:
		d.say(wrong, "issuer", fmt.Sprintf("%s says that it is %q", address, document.Issuer), "the running server has another SIGNET_ISSUER: restart it in this environment")
	case d.foreign(ctx):
		d.say(wrong, "issuer", d.cfg.Issuer+" signs with none of this database's keys", "another Signet is there, or the running server has another database: restart it in this environment")
	default:
		d.say(fine, "issuer", d.cfg.Issuer+" answers", "")
	}
	if got.tls != nil && d.cfg.TLSCert == "" {
		d.judge("certificate", got.tls.PeerCertificates[0])
	}
}

// foreign tells whether the server at the issuer publishes keys, and none that this database has.
func (d *doctor) foreign(ctx context.Context) bool {
	var published struct {
		Keys []struct {
			ID string `json:"kid"`
		} `json:"keys"`
	}
	got, err := fetchDocument(ctx, d.cfg.Issuer+"/.well-known/jwks.json", &published)
	if err != nil || got.unreadable != nil || len(published.Keys) == 0 || len(d.kids) == 0 {
		return false
	}
	for _, k := range published.Keys {
		if slices.Contains(d.kids, k.ID) {
			return false
		}
	}
	return true
}

// fetched is how a server answered that was asked for a JSON document.
type fetched struct {
	code       int
	status     string
	tls        *tls.ConnectionState
	unreadable error // the document is none
}

// fetchDocument reads the JSON document at the address into v. It follows no redirect.
func fetchDocument(ctx context.Context, address string, v any) (fetched, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fetched{}, err
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return fetched{}, err
	}
	defer res.Body.Close()
	return fetched{res.StatusCode, res.Status, res.TLS, json.NewDecoder(http.MaxBytesReader(nil, res.Body, 1<<20)).Decode(v)}, nil
}

func (d *doctor) mail(ctx context.Context) {
	if err := d.cfg.needMailer(); err != nil {
		d.say(wrong, "mail", err.Error(), "")
		return
	}
	if d.cfg.SMTPURL == "" {
		d.say(fine, "mail", "none is sent: links are handed out by an administrator", "")
		return
	}
	server, err := mail.NewSMTP(d.cfg.SMTPURL, string(d.cfg.MailFrom))
	if err == nil {
		err = server.Check(ctx)
	}
	if err != nil {
		d.say(wrong, "mail", err.Error(), "check SIGNET_SMTP_URL: host, port, user and password; mails wait until it works")
		return
	}
	u, _ := url.Parse(d.cfg.SMTPURL)
	d.say(fine, "mail", u.Host+" takes mails from "+string(d.cfg.MailFrom), "")
}
