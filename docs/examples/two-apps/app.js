// One of the two apps: which one, its settings say. Signet tells it when one of its users has logged out elsewhere.
import express from 'express';
import session from 'express-session';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import * as client from 'openid-client';

const { ISSUER, CLIENT_ID, CLIENT_SECRET, SESSION_SECRET, APP_URL, OTHER_URL } = process.env;
const http = ISSUER.startsWith('http:') ? { execute: [client.allowInsecureRequests] } : {}; // for development
const config = await client.discovery(new URL(ISSUER), CLIENT_ID, undefined, client.ClientSecretBasic(CLIENT_SECRET), http);
const keys = createRemoteJWKSet(new URL(config.serverMetadata().jwks_uri));

const app = express();
app.disable('x-powered-by');
const store = new session.MemoryStore();
app.use(session({
  name: CLIENT_ID, // browsers send cookies to all ports of a host: each app has a name of its own
  secret: SESSION_SECRET,
  store,
  resave: false,
  saveUninitialized: false,
  cookie: { httpOnly: true, sameSite: 'lax', secure: APP_URL.startsWith('https:'), maxAge: 12 * 60 * 60 * 1000 },
}));

app.get('/login', async (req, res) => {
  const [state, nonce, verifier] = [client.randomState(), client.randomNonce(), client.randomPKCECodeVerifier()];
  req.session.logins = [...(req.session.logins ?? []), { state, nonce, verifier }].slice(-5); // each tab has one of its own
  res.redirect(303, client.buildAuthorizationUrl(config, {
    redirect_uri: `${APP_URL}/callback`,
    scope: 'openid profile',
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
    nonce,
  }).href);
});

app.get('/callback', async (req, res) => {
  const { logins = [], username: user } = req.session;
  const login = logins.find(({ state }) => state === req.query.state);
  if (!login && user) return res.redirect(303, '/'); // back by the browser's button, with an answer that nobody waits for any more
  if (!login) return res.status(400).send('This login has not begun in this browser. <a href="/login">Try again</a>');
  let tokens;
  try {
    tokens = await client.authorizationCodeGrant(config, new URL(req.originalUrl, APP_URL), {
      pkceCodeVerifier: login.verifier, expectedState: login.state, expectedNonce: login.nonce, idTokenExpected: true,
    });
  } catch (err) {
    console.error('a login failed:', err.error ?? err.message);
    return res.status(403).send('You are not logged in. <a href="/login">Try again</a>');
  }
  await new Promise((resolve, reject) => req.session.regenerate((err) => (err ? reject(err) : resolve())));
  const { sub, sid, preferred_username: username } = tokens.claims();
  Object.assign(req.session, { sub, sid, username, idToken: tokens.id_token, logins: logins.filter((other) => other !== login) });
  res.redirect(303, '/');
});

// The log-out in the browser: here, and at Signet, which tells the other app.
app.post('/logout', async (req, res) => {
  const { idToken } = req.session;
  await new Promise((resolve, reject) => req.session.destroy((err) => (err ? reject(err) : resolve())));
  res.redirect(303, client.buildEndSessionUrl(config, {
    post_logout_redirect_uri: `${APP_URL}/`,
    ...(idToken && { id_token_hint: idToken }),
  }).href);
});

// The log-out that Signet tells of, from server to server (OpenID Connect Back-Channel Logout section 2.6). The token has to be
// Signet's, for this app, and about a log-out: an ID token says all else as well.
app.post('/backchannel-logout', express.urlencoded({ extended: false, limit: '10kb' }), async (req, res) => {
  res.set('Cache-Control', 'no-store');
  let told;
  try {
    ({ payload: told } = await jwtVerify(req.body?.logout_token ?? '', keys, {
      issuer: ISSUER, audience: CLIENT_ID, typ: 'logout+jwt', requiredClaims: ['iat', 'exp', 'jti', 'events'],
    }));
    if (!told.events['http://schemas.openid.net/event/backchannel-logout'] || 'nonce' in told || !(told.sid || told.sub)) {
      throw new Error('it is not about a log-out');
    }
  } catch (err) {
    console.error('a log-out was refused:', err.message);
    return res.status(400).json({ error: 'invalid_request' });
  }
  const sessions = await new Promise((resolve, reject) => store.all((err, all) => (err ? reject(err) : resolve(all))));
  for (const [id, kept] of Object.entries(sessions)) {
    if (told.sid ? kept.sid === told.sid : kept.sub === told.sub) store.destroy(id);
  }
  res.sendStatus(200);
});

app.get('/', (req, res) => {
  const text = req.session.username ? `You are ${req.session.username}.` : 'You are not logged in.';
  res.set('Cache-Control', 'no-store').send(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${CLIENT_ID}</title>
<h1>${CLIENT_ID}</h1>
<p>${text.replace(/[&<>]/g, (c) => `&#${c.charCodeAt(0)};`)}</p>
<p><a href="/login">Log in</a> · <a href="${OTHER_URL}/">The other app</a></p>
<form method="post" action="/logout"><button>Log out everywhere</button></form>
</html>
`);
});

app.listen(new URL(APP_URL).port, '127.0.0.1');
