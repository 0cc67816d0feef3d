// "Log in with Signet" for Express: authorization code, PKCE, OpenID Connect. Tokens stay on the server, in the session.
import { Router } from 'express';
import * as client from 'openid-client';

// login returns the routes /login, /callback and /logout, and a middleware for what is only for those who are logged in.
export async function login({ issuer, clientId, secret, app }) {
  const http = issuer.startsWith('http:') ? { execute: [client.allowInsecureRequests] } : {}; // for development
  const config = await client.discovery(new URL(issuer), clientId, undefined, client.ClientSecretBasic(secret), http);
  const routes = Router();

  routes.get('/login', async (req, res) => {
    const [state, nonce, verifier] = [client.randomState(), client.randomNonce(), client.randomPKCECodeVerifier()];
    // The last few that have begun, so that two tabs do not get into each other's way.
    req.session.logins = [...(req.session.logins ?? []), { state, nonce, verifier }].slice(-5);
    res.redirect(303, client.buildAuthorizationUrl(config, {
      redirect_uri: `${app}/callback`,
      scope: 'openid profile',
      code_challenge: await client.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      state,
      nonce,
    }).href);
  });

  routes.get('/callback', async (req, res) => {
    const { logins = [], user } = req.session;
    const login = logins.find(({ state }) => state === req.query.state);
    if (!login && user) return res.redirect(303, '/'); // back by the browser's button, with an answer that nobody waits for any more
    if (!login) return res.status(400).send('This login has not begun in this browser, or too long ago. <a href="/login">Try again</a>');
    req.session.logins = logins.filter((other) => other !== login);
    let tokens;
    try {
      // It checks state, iss, the ID token, its nonce and its signature.
      tokens = await client.authorizationCodeGrant(config, new URL(req.originalUrl, app), {
        pkceCodeVerifier: login.verifier,
        expectedState: login.state,
        expectedNonce: login.nonce,
        idTokenExpected: true,
      });
    } catch (err) {
      console.error('a login failed:', err.error ?? err.message); // access_denied: the user does not want to
      return res.status(403).send('You are not logged in. <a href="/login">Try again</a>');
    }
    // A new session id: nobody can have planted the one that the browser had.
    await new Promise((resolve, reject) => req.session.regenerate((err) => (err ? reject(err) : resolve())));
    req.session.user = tokens.claims();
    keep(req.session, tokens);
    res.redirect(303, '/');
  });

  // It ends the session here, and at Signet. Else the next click on "Log in" would log in again at once.
  routes.post('/logout', async (req, res) => {
    const { idToken } = req.session;
    await new Promise((resolve, reject) => req.session.destroy((err) => (err ? reject(err) : resolve())));
    res.redirect(303, client.buildEndSessionUrl(config, {
      post_logout_redirect_uri: `${app}/`,
      ...(idToken && { id_token_hint: idToken }),
    }).href);
  });

  // When the access token has expired, Signet is asked for a new one, and says whether the session is still good. Requests
  // that come at once need no lock: they all get the same successor.
  async function loggedIn(req, res, next) {
    if (!req.session.user) return res.redirect(303, '/login');
    if (Date.now() >= req.session.expires) {
      try {
        keep(req.session, await client.refreshTokenGrant(config, req.session.refreshToken));
      } catch (err) {
        if (err.error !== 'invalid_grant') return res.status(503).send('Try again in a moment.');
        req.session.user = undefined; // logged out elsewhere, or by an administrator
        return res.redirect(303, '/login');
      }
    }
    next();
  }

  const userinfo = (session) => client.fetchUserInfo(config, session.accessToken, session.user.sub);

  return { routes, loggedIn, userinfo };
}

function keep(session, tokens) {
  session.accessToken = tokens.access_token;
  session.refreshToken = tokens.refresh_token;
  session.idToken = tokens.id_token ?? session.idToken;
  session.expires = Date.now() + (tokens.expires_in - 1) * 1000;
}
