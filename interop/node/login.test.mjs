// Logging in by browser, with the libraries that apps use.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import express from 'express';
import connect from 'express-openid-connect';
import session from 'express-session';
import * as jose from 'jose';
import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';
import openid5 from 'openid-client-5';
import passport from 'passport';
import OpenIDConnectStrategy from 'passport-openidconnect';
import { Browser } from './browser.mjs';
import { Signet, audience, claims, header, username } from './signet.mjs';

const callback = 'http://127.0.0.1:1/callback'; // where nobody listens: the browser stops before it
const home = 'http://127.0.0.1:1/';
const insecure = { [oauth.allowInsecureRequests]: true }; // for development
const local = { SIGNET_FETCH_ALLOW: '127.0.0.0/8' };

// Runs the app on a port of its own, and the test with its address.
const running = async (app, test) => {
  const server = createServer((req, res) => app.handler(req, res));
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  try {
    await test(`http://127.0.0.1:${server.address().port}`);
  } finally {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
};

describe('login', { concurrency: true }, () => {
  test('openid-client', () => Signet.with('ES256', async (s) => {
    const { client_id, client_secret } = await s.register('--name', 'Shop', '--redirect-uri', callback, '--post-logout-redirect-uri', home);
    const config = await openid.discovery(new URL(s.issuer), client_id, client_secret, undefined, { execute: [openid.allowInsecureRequests] });
    const browser = new Browser();

    const flow = async (parameters = {}, checks = {}) => {
      const verifier = openid.randomPKCECodeVerifier();
      const [state, nonce] = [openid.randomState(), openid.randomNonce()];
      const url = openid.buildAuthorizationUrl(config, {
        redirect_uri: callback, scope: 'openid profile email offline_access', state, nonce,
        code_challenge: await openid.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256', ...parameters,
      });
      const { url: answer } = await browser.logIn(url, { until: callback });
      return openid.authorizationCodeGrant(config, answer, { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, ...checks });
    };
    const tokens = await flow();
    const { sub, auth_time } = tokens.claims();
    assert.equal(tokens.token_type, 'bearer');
    assert.equal(header(tokens.id_token).alg, 'RS256');
    const user = await openid.fetchUserInfo(config, tokens.access_token, sub);
    assert.equal(user.preferred_username, username);

    const refreshed = await openid.refreshTokenGrant(config, tokens.refresh_token);
    assert.deepEqual([refreshed.claims().sub, refreshed.claims().auth_time], [sub, auth_time]);

    // Logged in already: nobody is asked, and the library checks the age of the login.
    const again = await flow({ prompt: 'none', max_age: '3600' }, { maxAge: 3600 });
    assert.equal(again.claims().sid, tokens.claims().sid);

    // Logged out: the browser is sent home, and the next login asks.
    const bye = openid.buildEndSessionUrl(config, { id_token_hint: again.id_token, post_logout_redirect_uri: home, state: 'bye' });
    assert.equal((await browser.open(bye, { until: home })).url.searchParams.get('state'), 'bye');
    await assert.rejects(flow({ prompt: 'none' }), { error: 'login_required' });
    assert.ok((await openid.refreshTokenGrant(config, refreshed.refresh_token)).access_token, 'offline_access outlives the login');
  }));

  test('openid-client, with all that proves more', () => Signet.with('ES256', async (s) => {
    const keys = await jose.generateKeyPair('ES256', { extractable: true });
    const config = await openid.dynamicClientRegistration(new URL(s.issuer), {
      client_name: 'Came by itself', redirect_uris: [callback], token_endpoint_auth_method: 'private_key_jwt',
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      jwks: { keys: [{ ...(await jose.exportJWK(keys.publicKey)), kid: 'one', alg: 'ES256', use: 'sig' }] },
      dpop_bound_access_tokens: true, require_pushed_authorization_requests: true, id_token_signed_response_alg: 'ES256',
    }, openid.PrivateKeyJwt({ key: keys.privateKey, kid: 'one' }), { execute: [openid.allowInsecureRequests] });
    const { client_id, registration_access_token, registration_client_uri } = config.clientMetadata();
    const DPoP = openid.getDPoPHandle(config, await openid.randomDPoPKeyPair('ES256'));

    const verifier = openid.randomPKCECodeVerifier();
    const url = await openid.buildAuthorizationUrlWithPAR(config, {
      redirect_uri: callback, scope: 'openid profile offline_access',
      code_challenge: await openid.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
    }, { DPoP });
    assert.deepEqual([...url.searchParams.keys()].sort(), ['client_id', 'request_uri']);
    const browser = new Browser();
    const { url: answer } = await browser.logIn(url, { until: callback });
    const tokens = await openid.authorizationCodeGrant(config, answer, { pkceCodeVerifier: verifier, idTokenExpected: true }, undefined, { DPoP });
    assert.equal(tokens.token_type, 'dpop');
    assert.ok(claims(tokens.access_token).cnf.jkt);
    const refreshed = await openid.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP });
    const user = await openid.fetchUserInfo(config, refreshed.access_token, tokens.claims().sub, { DPoP });
    assert.equal(user.preferred_username, username);
    const plain = await fetch(`${s.issuer}/userinfo`, { headers: { authorization: `Bearer ${refreshed.access_token}` } });
    assert.equal(plain.status, 401, 'a bound token is nobody else\'s');

    // A box without a browser.
    const device = await openid.initiateDeviceAuthorization(config, { scope: 'openid' });
    const polled = openid.pollDeviceAuthorizationGrant(config, { ...device, interval: 1 }, undefined, { DPoP });
    const page = await browser.logIn(device.verification_uri_complete);
    const done = await browser.submit(page.form.fields.has('user_code') ? await browser.submit(page, {}) : page, { decision: 'allow' });
    assert.equal(done.status, 200, done.body);
    assert.equal((await polled).claims().sub, tokens.claims().sub);

    // RFC 7592.
    const own = await fetch(registration_client_uri, { headers: { authorization: `Bearer ${registration_access_token}` } });
    assert.equal((await own.json()).client_id, client_id);
    assert.equal((await fetch(registration_client_uri, { method: 'DELETE', headers: { authorization: `Bearer ${registration_access_token}` } })).status, 204);
  }, { SIGNET_REGISTRATION: 'open' }));

  test('openid-client 5', () => Signet.with('ES256', async (s) => {
    const made = await s.register('--name', 'Shop', '--redirect-uri', callback, '--post-logout-redirect-uri', home);
    const issuer = await openid5.Issuer.discover(s.issuer);
    const client = new issuer.Client({ client_id: made.client_id, client_secret: made.client_secret, redirect_uris: [callback], response_types: ['code'] });
    const [code_verifier, state, nonce] = [openid5.generators.codeVerifier(), openid5.generators.state(), openid5.generators.nonce()];
    const url = client.authorizationUrl({
      scope: 'openid profile offline_access', state, nonce, code_challenge: openid5.generators.codeChallenge(code_verifier), code_challenge_method: 'S256',
    });
    const browser = new Browser();
    const { url: answer } = await browser.logIn(url, { until: callback });
    const tokens = await client.callback(callback, client.callbackParams(answer.href), { code_verifier, state, nonce });
    assert.equal((await client.userinfo(tokens)).preferred_username, username);
    const refreshed = await client.refresh(tokens);
    assert.equal(refreshed.claims().sub, tokens.claims().sub);
    assert.equal((await client.introspect(refreshed.access_token)).active, true);
    const bye = client.endSessionUrl({ id_token_hint: refreshed, post_logout_redirect_uri: home });
    assert.equal((await browser.open(bye, { until: home })).url.href.startsWith(home), true);
    await client.revoke(refreshed.refresh_token);
    await assert.rejects(client.refresh(refreshed.refresh_token), { error: 'invalid_grant' });
  }));

  test('oauth4webapi', () => Signet.with('ES256', async (s) => {
    const { client_id } = await s.register('--name', 'Page', '--public', '--redirect-uri', callback, '--id-token-signed-response-alg', 'ES256', '--audience', audience,
      '--scope', 'openid profile offline_access read');
    const url = new URL(s.issuer);
    const server = await oauth.processDiscoveryResponse(url, await oauth.discoveryRequest(url, insecure));
    const client = { client_id, id_token_signed_response_alg: 'ES256' };
    const DPoP = oauth.DPoP(client, await oauth.generateKeyPair('ES256'));

    const ask = async (more) => {
      const [verifier, state, nonce] = [oauth.generateRandomCodeVerifier(), oauth.generateRandomState(), oauth.generateRandomNonce()];
      const request = new URL(server.authorization_endpoint);
      request.search = new URLSearchParams({
        response_type: 'code', client_id, redirect_uri: callback, scope: 'openid profile offline_access read', state, nonce,
        code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256', ...more,
      });
      return { request, verifier, state, nonce };
    };
    const asked = await ask({ resource: audience });
    const browser = new Browser();
    const { url: answer } = await browser.logIn(asked.request, { until: callback });
    const parameters = oauth.validateAuthResponse(server, client, answer, asked.state); // and the iss in it
    const redeem = () => oauth.authorizationCodeGrantRequest(server, client, oauth.None(), parameters, callback, asked.verifier, { DPoP, ...insecure });
    let result;
    try {
      result = await oauth.processAuthorizationCodeResponse(server, client, await redeem(), { expectedNonce: asked.nonce, requireIdToken: true });
    } catch (err) {
      if (!oauth.isDPoPNonceError(err)) throw err;
      result = await oauth.processAuthorizationCodeResponse(server, client, await redeem(), { expectedNonce: asked.nonce, requireIdToken: true });
    }
    const { sub } = oauth.getValidatedIdTokenClaims(result);

    // The resource server's side of it: an access token that is bound to a key, with its proof.
    const proven = async (token, check) => {
      let got;
      await running({ handler: (req, res) => { got = req; res.end('{}'); } }, async (address) => {
        await oauth.protectedResourceRequest(token, 'GET', new URL(`${address}/orders`), undefined, undefined, { DPoP, ...insecure });
        await check(new Request(`${address}${got.url}`, { headers: got.headers }));
      });
    };
    await proven(result.access_token, async (request) => {
      const known = await oauth.validateJwtAccessToken(server, request, audience, { requireDPoP: true, ...insecure });
      assert.deepEqual([known.sub, known.client_id, known.scope.includes('read')], [sub, client_id, true]);
    });

    const refresh = (token) => oauth.refreshTokenGrantRequest(server, client, oauth.None(), token, { DPoP, ...insecure });
    const refreshed = await oauth.processRefreshTokenResponse(server, client, await refresh(result.refresh_token));
    assert.equal(refreshed.token_type, 'dpop');
    // The refresh token is bound to the key as well: it is worth nothing without.
    await assert.rejects(async () => oauth.processRefreshTokenResponse(server, client,
      await oauth.refreshTokenGrantRequest(server, client, oauth.None(), refreshed.refresh_token, insecure)), { status: 400 });

    // What goes wrong comes back to the app, with its state.
    const odd = await ask({ scope: 'openid unheard-of' });
    const { url: refusal } = await browser.logIn(odd.request, { until: callback });
    assert.throws(() => oauth.validateAuthResponse(server, client, refusal, odd.state), { error: 'invalid_scope' });
  }));

  test('passport-openidconnect', () => Signet.with('ES256', async (s) => {
    const app = express();
    await running({ handler: app }, async (address) => {
      // The library knows no PKCE, which a client with a secret may be let off, and no discovery.
      const made = await s.register('--name', 'Passport', '--redirect-uri', `${address}/callback`, '--require-pkce=false');
      const known = await (await fetch(`${s.issuer}/.well-known/openid-configuration`)).json();
      passport.use('signet', new OpenIDConnectStrategy({
        issuer: s.issuer, authorizationURL: known.authorization_endpoint, tokenURL: known.token_endpoint, userInfoURL: known.userinfo_endpoint,
        clientID: made.client_id, clientSecret: made.client_secret, callbackURL: `${address}/callback`, scope: ['profile', 'email'],
      }, (issuer, profile, done) => done(null, profile)));
      passport.serializeUser((user, done) => done(null, user));
      passport.deserializeUser((user, done) => done(null, user));
      app.use(session({ secret: 'of the session', resave: false, saveUninitialized: false }), passport.session());
      app.get('/', passport.authenticate('signet'));
      app.get('/callback', passport.authenticate('signet', { failureMessage: true }), (req, res) => res.json(req.user));
      const page = await new Browser().logIn(address);
      assert.equal(page.status, 200, page.body);
      assert.equal(JSON.parse(page.body).username, username, page.body);
    });
  }));

  test('express-openid-connect', () => Signet.with('ES256', async (s) => {
    const app = express();
    await running({ handler: app }, async (address) => {
      const made = await s.register('--name', 'Express', '--redirect-uri', `${address}/callback`, '--post-logout-redirect-uri', address,
        '--backchannel-logout-uri', `${address}/backchannel-logout`);
      const ended = new Map(); // what the app is told of by back-channel
      let told = 0;
      const toldTimes = async (n) => {
        for (const deadline = Date.now() + 30_000; told < n; await sleep(20)) assert.ok(Date.now() < deadline, 'the app is not told');
      };
      app.post('/backchannel-logout', (req, res, next) => { res.once('finish', () => told++); next(); });
      app.use(connect.auth({
        issuerBaseURL: s.issuer, baseURL: address, clientID: made.client_id, clientSecret: made.client_secret, secret: 'of the cookie, long enough for anybody',
        authRequired: false, idpLogout: true, authorizationParams: { response_type: 'code', scope: 'openid profile offline_access' },
        backchannelLogout: { store: {
          get: (id, done) => done(null, ended.get(id)), set: (id, value, done) => { ended.set(id, value); done(); }, destroy: (id, done) => { ended.delete(id); done(); },
        } },
      }));
      app.get('/', (req, res) => res.send('home'));
      app.get('/me', connect.requiresAuth(), (req, res) => res.json(req.oidc.user));
      const browser = new Browser();
      const me = async () => JSON.parse((await browser.logIn(`${address}/me`)).body);
      assert.equal((await me()).preferred_username, username);

      // From here: the app's own log-out ends the login at Signet.
      assert.equal((await browser.open(`${address}/logout`)).body, 'home');
      assert.ok((await browser.open(`${address}/me`)).form.fields.has('password'));
      await toldTimes(1);

      // From there: the user is logged out everywhere, and the app is told.
      assert.equal((await me()).preferred_username, username);
      await s.run('', 'user', 'logout', username);
      await toldTimes(2);
      assert.ok((await browser.open(`${address}/me`)).form, 'the app believes that the user is logged in');
    });
  }, local));
});
