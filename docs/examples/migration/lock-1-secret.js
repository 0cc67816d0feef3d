// As in the tutorials: one secret, which the auth server and every API have.
import jwt from 'jsonwebtoken';

export function authenticate(req, res, next) {
  const token = req.get('Authorization')?.split(' ')[1];
  if (!token) return res.set('WWW-Authenticate', 'Bearer').sendStatus(401);
  jwt.verify(token, process.env.ACCESS_TOKEN_SECRET, (err, claims) => {
    if (err) return res.set('WWW-Authenticate', 'Bearer error="invalid_token"').sendStatus(401);
    req.user = claims.name ?? claims.sub; // the old server's tokens have a name, Signet's a sub
    next();
  });
}
