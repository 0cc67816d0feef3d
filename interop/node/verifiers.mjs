// How an API checks access tokens with each library: a function that makes one that takes a token and returns its claims, or
// throws. What they take are settings of the API.
import { JwtVerifier } from 'aws-jwt-verify';
import { SimpleJwksCache } from 'aws-jwt-verify/jwk';
import express from 'express';
import { auth, requiredScopes } from 'express-oauth2-jwt-bearer';
import * as jose from 'jose';
import jwt from 'jsonwebtoken';
import jwksRsa from 'jwks-rsa';
import * as oauth from 'oauth4webapi';
import passport from 'passport';
import { ExtractJwt, Strategy } from 'passport-jwt';

export async function withJose({ issuer, audience, algorithm }) {
  const keys = jose.createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`)); // once

  return async (token) => {
    const { payload } = await jose.jwtVerify(token, keys, { issuer, audience, algorithms: [algorithm], typ: 'at+jwt' });
    return payload;
  };
}

export async function withJoseAndSecret({ issuer, audience, secret }) {
  return async (token) => {
    const key = new TextEncoder().encode(secret);
    const { payload } = await jose.jwtVerify(token, key, { issuer, audience, algorithms: ['HS256'], typ: 'at+jwt' });
    return payload;
  };
}

export async function withJsonwebtoken({ issuer, audience, algorithm }) {
  const keys = jwksRsa({ jwksUri: `${issuer}/.well-known/jwks.json`, cache: true, rateLimit: true }); // once
  const getKey = (header, done) => keys.getSigningKey(header.kid, (err, key) => done(err, key?.getPublicKey()));

  return (token) =>
    new Promise((accept, refuse) => {
      jwt.verify(token, getKey, { issuer, audience, algorithms: [algorithm], complete: true }, (err, verified) => {
        if (err || verified.header.typ !== 'at+jwt') return refuse(err ?? new Error('not an access token'));
        accept(verified.payload);
      });
    });
}

export async function withJsonwebtokenAndSecret({ issuer, audience, secret }) {
  return async (token) => {
    const { header, payload } = jwt.verify(token, secret, { issuer, audience, algorithms: ['HS256'], complete: true });
    if (header.typ !== 'at+jwt') throw new Error('not an access token');
    return payload;
  };
}

export async function withAwsJwtVerify({ issuer, audience }) {
  const verifier = JwtVerifier.create({
    issuer,
    audience,
    jwksUri: `${issuer}/.well-known/jwks.json`,
    customJwtCheck: ({ header }) => {
      if (header.typ !== 'at+jwt') throw new Error('not an access token');
    },
  }, {
    // For development: by itself it fetches keys by https alone.
    jwksCache: new SimpleJwksCache({ fetcher: { fetch: async (uri) => (await fetch(uri)).arrayBuffer() } }),
  });

  return (token) => verifier.verify(token);
}

export async function withOauth4webapi({ issuer, audience, algorithm }) {
  const insecure = { [oauth.allowInsecureRequests]: true }; // for development
  const url = new URL(issuer);
  const server = await oauth.processDiscoveryResponse(url, await oauth.discoveryRequest(url, { algorithm: 'oauth2', ...insecure })); // once

  return (token) => {
    const request = new Request(audience, { headers: { authorization: `Bearer ${token}` } }); // in an API: the one that came
    return oauth.validateJwtAccessToken(server, request, audience, {
      signingAlgorithms: [algorithm],
      [oauth.clockTolerance]: 5, // seconds; it would be 30
      ...insecure,
    });
  };
}

export async function withPassportJwt({ issuer, audience, algorithm }, t) {
  const app = express();
  passport.use(algorithm, new Strategy({
    jwtFromRequest: ExtractJwt.fromAuthHeaderAsBearerToken(),
    secretOrKeyProvider: jwksRsa.passportJwtSecret({
      jwksUri: `${issuer}/.well-known/jwks.json`,
      cache: true,
      rateLimit: true,
      handleSigningKeyError: (err, done) => done(err), // or an unsigned token with an unknown kid ends the process
    }),
    issuer,
    audience,
    algorithms: [algorithm],
  }, (claims, done) => done(null, claims))); // in an API: load the user whose id is claims.sub
  app.get('/', passport.authenticate(algorithm, { session: false }), (req, res) => res.json(req.user));
  return serve(app, t);
}

export async function withPassportJwtAndSecret({ issuer, audience, secret }, t) {
  const app = express();
  passport.use('HS256', new Strategy({
    jwtFromRequest: ExtractJwt.fromAuthHeaderAsBearerToken(),
    secretOrKey: secret,
    issuer,
    audience,
    algorithms: ['HS256'],
  }, (claims, done) => done(null, claims)));
  app.get('/', passport.authenticate('HS256', { session: false }), (req, res) => res.json(req.user));
  return serve(app, t);
}

export async function withExpressOauth2JwtBearer({ issuer, audience, algorithm }, t) {
  const app = express();
  app.use(auth({ issuerBaseURL: issuer, audience, tokenSigningAlg: algorithm, strict: true }));
  app.get('/', requiredScopes('read'), (req, res) => res.json(req.auth.payload));
  return serve(app, t);
}

export async function withExpressOauth2JwtBearerAndSecret({ issuer, audience, secret }, t) {
  const app = express();
  app.use(auth({ issuer, audience, secret, tokenSigningAlg: 'HS256', strict: true }));
  app.get('/', requiredScopes('read'), (req, res) => res.json(req.auth.payload));
  return serve(app, t);
}

// Serves the app until the test ends, and asks it about a token.
async function serve(app, t) {
  app.use((err, req, res, next) => res.status(err.status ?? 500).send(err.message)); // Express' own would print it
  const server = app.listen(0, '127.0.0.1');
  await new Promise((ready) => server.once('listening', ready));
  t.after(() => new Promise((closed) => { server.close(closed); server.closeAllConnections(); }));
  return async (token) => {
    const res = await fetch(`http://127.0.0.1:${server.address().port}/`, { headers: { authorization: `Bearer ${token}` } });
    if (res.status === 200) return res.json();
    const text = await res.text();
    if (res.status === 401) throw new Error(text);
    process.exitCode = 1; // a refusal that is no 401 must not pass for one
    console.error(`the API answers ${res.status} ${text}`);
    return { sub: `status ${res.status}` };
  };
}
