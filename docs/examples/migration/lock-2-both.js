// For the days between: tokens that are signed with the secret, and those signed with Signet's keys. Which of the two it is
// decides what they are checked with, so that nobody can pass a public key off as the secret.
import jwt from 'jsonwebtoken';
import jwksClient from 'jwks-rsa';

const { ISSUER, ACCESS_TOKEN_SECRET } = process.env;
const keys = jwksClient({ jwksUri: `${ISSUER}/.well-known/jwks.json`, rateLimit: true });
const key = (header, done) => keys.getSigningKey(header.kid, (err, key) => done(err, key?.getPublicKey()));

export function authenticate(req, res, next) {
  const token = req.get('Authorization')?.split(' ')[1];
  if (!token) return res.set('WWW-Authenticate', 'Bearer').sendStatus(401);
  const bySecret = jwt.decode(token, { complete: true })?.header.alg === 'HS256';
  const [secretOrKey, algorithm] = bySecret ? [ACCESS_TOKEN_SECRET, 'HS256'] : [key, 'ES256'];
  const expected = { algorithms: [algorithm], issuer: ISSUER, audience: 'https://api.example.com' };
  jwt.verify(token, secretOrKey, expected, (err, claims) => {
    if (err) return res.set('WWW-Authenticate', 'Bearer error="invalid_token"').sendStatus(401);
    req.user = claims.sub;
    next();
  });
}
