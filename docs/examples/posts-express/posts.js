// An API that shows callers their own posts. Who they are it learns from Signet's access tokens, which it verifies by
// itself, with the keys that Signet publishes.
import { readFileSync } from 'node:fs';
import express from 'express';
import jwt from 'jsonwebtoken';
import jwksClient from 'jwks-rsa';

const { ISSUER, API_PORT } = process.env;
const AUDIENCE = 'https://posts.example.com'; // this API's name: it takes no token that was issued for another one

// Each post's author is a user's id: the sub of the user's tokens.
const posts = JSON.parse(readFileSync('posts.json', 'utf8'));

// Keys are cached, and fetched when a token names one that is not, ten times a minute at most.
const keys = jwksClient({ jwksUri: `${ISSUER}/.well-known/jwks.json`, rateLimit: true });
const key = (header, done) => keys.getSigningKey(header.kid, (err, key) => done(err, key?.getPublicKey()));

// authenticate lets through who shows a good token, and notes what it says.
function authenticate(req, res, next) {
  const token = /^Bearer +(.+)$/i.exec(req.get('Authorization'))?.[1];
  if (!token) {
    return res.status(401).set('WWW-Authenticate', 'Bearer').json({ error: 'log in first' });
  }
  // Never the algorithm that the token wishes for.
  const expected = { algorithms: ['ES256'], issuer: ISSUER, audience: AUDIENCE, complete: true };
  jwt.verify(token, key, expected, (err, verified) => {
    if (err || verified.header.typ !== 'at+jwt') {
      return res.status(401).set('WWW-Authenticate', 'Bearer error="invalid_token"').json({ error: 'the token is bad or has expired' });
    }
    req.auth = verified.payload;
    next();
  });
}

// allow lets through whose token holds the scope.
const allow = (scope) => (req, res, next) => {
  if (!req.auth.scope.split(' ').includes(scope)) {
    return res.status(403).json({ error: `the token does not allow ${scope}` });
  }
  next();
};

const api = express().disable('x-powered-by');
api.get('/posts', authenticate, allow('posts:read'), (req, res) => {
  res.json(posts.filter((post) => post.author === req.auth.sub));
});
api.listen(API_PORT, '127.0.0.1');
