// It serves the page, and the API that the page calls. The API could be anywhere.
import express from 'express';
import { createRemoteJWKSet, jwtVerify } from 'jose';

const { ISSUER, APP_PORT } = process.env;
const audience = 'https://hello.example.com';
const keys = createRemoteJWKSet(new URL(`${ISSUER}/.well-known/jwks.json`));
const here = import.meta.dirname;

const app = express();
app.disable('x-powered-by');
app.use((req, res, next) => {
  // Only the page's own scripts, and calls to nobody but the page's server and Signet: tokens in a browser are worth that.
  res.set('Content-Security-Policy', `default-src 'none'; script-src 'self'; connect-src 'self' ${ISSUER}; base-uri 'none'; frame-ancestors 'none'`);
  res.set('Referrer-Policy', 'no-referrer'); // no code in anybody's log
  next();
});

app.get('/hello', async (req, res) => {
  res.set('Cache-Control', 'no-store');
  const [scheme, token] = (req.get('Authorization') ?? '').split(' ');
  try {
    if (scheme.toLowerCase() !== 'bearer') throw new Error('no token');
    const { payload } = await jwtVerify(token, keys, { issuer: ISSUER, audience, typ: 'at+jwt', algorithms: ['ES256'] });
    res.json({ hello: `The API knows you as ${payload.sub}.` });
  } catch {
    res.status(401).set('WWW-Authenticate', 'Bearer error="invalid_token"').json({ error: 'log in first, or renew your token' });
  }
});

app.get('/settings.json', (req, res) => res.json({ authority: ISSUER, client_id: 'hello', scope: 'openid profile hello' }));
app.get('/oidc-client-ts.js', (req, res) => res.sendFile(`${here}/node_modules/oidc-client-ts/dist/browser/oidc-client-ts.min.js`));
app.use(express.static(`${here}/app`));
app.listen(APP_PORT, '127.0.0.1');
