// Signet's keys alone. This API holds no secret: it can check tokens, and make none.
import jwt from 'jsonwebtoken';
import jwksClient from 'jwks-rsa';

const { ISSUER } = process.env;
const keys = jwksClient({ jwksUri: `${ISSUER}/.well-known/jwks.json`, rateLimit: true });
const key = (header, done) => keys.getSigningKey(header.kid, (err, key) => done(err, key?.getPublicKey()));

export function authenticate(req, res, next) {
  const token = req.get('Authorization')?.split(' ')[1];
  if (!token) return res.set('WWW-Authenticate', 'Bearer').sendStatus(401);
  const expected = { algorithms: ['ES256'], issuer: ISSUER, audience: 'https://api.example.com', complete: true };
  jwt.verify(token, key, expected, (err, verified) => {
    if (err || verified.header.typ !== 'at+jwt') return res.set('WWW-Authenticate', 'Bearer error="invalid_token"').sendStatus(401);
    req.user = verified.payload.sub;
    next();
  });
}
