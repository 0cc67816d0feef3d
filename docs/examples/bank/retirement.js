// The retirement fund asks Signet about each token (RFC 7662): a call more, and after a log-out the next request is refused.
import { readFileSync } from 'node:fs';
import express from 'express';

const { ISSUER, RETIREMENT_PORT, RETIREMENT_SECRET } = process.env;
const accounts = JSON.parse(readFileSync('accounts.json', 'utf8'));
const credentials = `Basic ${btoa(`retirement:${RETIREMENT_SECRET}`)}`;

// introspect answers what Signet says of the token: { active: false } of all that are not good, or not for this API.
async function introspect(token) {
  const answer = await fetch(`${ISSUER}/introspect`, {
    method: 'POST',
    headers: { Authorization: credentials },
    body: new URLSearchParams({ token }),
    signal: AbortSignal.timeout(5000),
  });
  if (!answer.ok) {
    throw new Error(`introspection: ${answer.status}`);
  }
  return answer.json();
}

const api = express().disable('x-powered-by');
api.get('/balance', async (req, res) => {
  const token = /^Bearer +(.+)$/i.exec(req.get('Authorization'))?.[1];
  if (!token) {
    return res.status(401).set('WWW-Authenticate', 'Bearer').json({ error: 'log in first' });
  }
  let about;
  try {
    about = await introspect(token);
  } catch { // who cannot ask lets nobody in
    return res.status(503).set('Retry-After', '2').json({ error: 'try again' });
  }
  if (!about.active || about.token_type !== 'Bearer') {
    return res.status(401).set('WWW-Authenticate', 'Bearer error="invalid_token"').json({ error: 'the token is bad, or its user has logged out' });
  }
  res.json({ balance: accounts[about.sub]?.retirement ?? 0 });
});
api.listen(RETIREMENT_PORT, '127.0.0.1');
