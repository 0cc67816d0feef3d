// A session in cookies of this app's own, renewed in passing. The refresh token goes nowhere but to this server.
import { createRemoteJWKSet, jwtVerify } from 'jose';

const { ISSUER, CLIENT_SECRET } = process.env;
const keys = createRemoteJWKSet(new URL(`${ISSUER}/.well-known/jwks.json`));
const expected = { issuer: ISSUER, audience: 'https://shop.example.com', typ: 'at+jwt', algorithms: ['ES256'] };
const cookie = { httpOnly: true, sameSite: 'strict', secure: ISSUER.startsWith('https:'), path: '/' };

// Lets through who is logged in. Where the access token has expired and the refresh token lives, it renews both in one call,
// and the request goes on as if nothing had been.
export async function authenticated(req, res, next) {
  res.set('Cache-Control', 'no-store'); // neither tokens nor what they open are for caches
  req.user = await verify(req.cookies.access_token) ?? await renew(req, res);
  if (req.user) return next();
  clear(res);
  res.status(401).send('log in first');
}

// Returns whose token it is, undefined for a bad or expired one.
async function verify(token) {
  try {
    return (await jwtVerify(token, keys, expected)).payload.sub;
  } catch {
    return undefined;
  }
}

// Needs no lock: requests that come at once, on however many servers, all get the same new refresh token from Signet.
async function renew(req, res) {
  const refreshToken = req.cookies.refresh_token;
  const tokens = refreshToken && await ask('/token', { grant_type: 'refresh_token', refresh_token: refreshToken });
  if (!tokens) return undefined;
  set(res, tokens);
  return (await jwtVerify(tokens.access_token, keys, expected)).payload.sub;
}

export async function logIn(req, res) {
  const { username, password } = req.body;
  const tokens = await ask('/token', { grant_type: 'password', username, password });
  if (!tokens) return res.status(401).send('the name or the password is wrong');
  set(res, tokens);
  res.redirect(303, '/orders');
}

// Ends the session, here and at Signet.
export async function logOut(req, res) {
  if (req.cookies.refresh_token) await ask('/revoke', { token: req.cookies.refresh_token });
  clear(res);
  res.redirect(303, '/');
}

// Asks Signet. Returns undefined for invalid_grant: the session has ended, or the password is wrong. Whatever else goes wrong
// is no reason to log anybody out, and is thrown.
async function ask(path, parameters) {
  const answer = await fetch(ISSUER + path, {
    method: 'POST',
    headers: { Authorization: `Basic ${Buffer.from(`shop:${CLIENT_SECRET}`).toString('base64')}` },
    body: new URLSearchParams(parameters),
    signal: AbortSignal.timeout(10_000),
  });
  const body = await answer.json();
  if (answer.ok) return body;
  if (body.error === 'invalid_grant') return undefined;
  throw new Error(`${path}: ${answer.status} ${body.error}`);
}

function set(res, tokens) {
  res.cookie('access_token', tokens.access_token, { ...cookie, maxAge: tokens.expires_in * 1000 });
  res.cookie('refresh_token', tokens.refresh_token, { ...cookie, maxAge: 30 * 86_400_000 }); // Signet knows better when it ends
}

function clear(res) {
  res.clearCookie('access_token', cookie).clearCookie('refresh_token', cookie);
}
