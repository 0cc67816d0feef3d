// The bank verifies tokens offline: quick, and nobody is asked. It learns of a log-out when the token expires.
import { readFileSync } from 'node:fs';
import express from 'express';
import { createRemoteJWKSet, jwtVerify } from 'jose';

const { ISSUER, BANK_PORT, SIGNET_SIGNING_SECRET } = process.env;
const accounts = JSON.parse(readFileSync('accounts.json', 'utf8'));

// The keys that Signet publishes; or, for those who come from one shared secret, that secret: its text, as bytes.
const [key, algorithm] = SIGNET_SIGNING_SECRET
  ? [new TextEncoder().encode(SIGNET_SIGNING_SECRET), 'HS256']
  : [createRemoteJWKSet(new URL(`${ISSUER}/.well-known/jwks.json`)), 'ES256'];

const api = express().disable('x-powered-by');
api.get('/balance', async (req, res) => {
  const token = /^Bearer +(.+)$/i.exec(req.get('Authorization'))?.[1];
  if (!token) {
    return res.status(401).set('WWW-Authenticate', 'Bearer').json({ error: 'log in first' });
  }
  try {
    const expected = { issuer: ISSUER, audience: 'https://bank.example.com', typ: 'at+jwt', algorithms: [algorithm] };
    const { payload } = await jwtVerify(token, key, expected);
    res.json({ balance: accounts[payload.sub]?.bank ?? 0 });
  } catch {
    res.status(401).set('WWW-Authenticate', 'Bearer error="invalid_token"').json({ error: 'the token is bad or has expired' });
  }
});
api.listen(BANK_PORT, '127.0.0.1');
