// An API that keeps its users' recipes in a database. The lock on its door is passport's JWT strategy; the tokens are
// Signet's, and are verified here with the keys that Signet publishes.
import express from 'express';
import jwks from 'jwks-rsa';
import passport from 'passport';
import { ExtractJwt, Strategy } from 'passport-jwt';
import sqlite from 'node-sqlite3-wasm';

const { ISSUER, API_PORT } = process.env;

const db = new sqlite.Database('recipes.db');
db.exec('CREATE TABLE IF NOT EXISTS recipes (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, title TEXT NOT NULL)');
db.exec('CREATE INDEX IF NOT EXISTS recipes_by_owner ON recipes (owner)');

passport.use(new Strategy({
  jwtFromRequest: ExtractJwt.fromAuthHeaderAsBearerToken(),
  secretOrKeyProvider: jwks.passportJwtSecret({
    jwksUri: `${ISSUER}/.well-known/jwks.json`,
    rateLimit: true,
    handleSigningKeyError: (err, done) => done(err), // else a token with an unknown kid ends this process
  }),
  algorithms: ['ES256'], // never the algorithm that the token wishes for
  issuer: ISSUER,
  audience: 'https://recipes.example.com', // this API's name: it takes no token that was issued for another one
}, (claims, done) => done(null, { id: claims.sub }))); // the same id for ever, whatever becomes of the user's name

const api = express().disable('x-powered-by');
api.use(express.json(), passport.authenticate('jwt', { session: false }));

api.get('/recipes', (req, res) => {
  res.json(db.all('SELECT id, title FROM recipes WHERE owner = ? ORDER BY id', [req.user.id]));
});

api.post('/recipes', (req, res) => {
  const title = req.body?.title;
  if (typeof title !== 'string' || !title) {
    return res.status(400).json({ error: 'a recipe needs a title' });
  }
  const { lastInsertRowid: id } = db.run('INSERT INTO recipes (owner, title) VALUES (?, ?)', [req.user.id, title]);
  res.status(201).json({ id, title });
});

api.listen(API_PORT, '127.0.0.1');
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => { db.close(); process.exit(); });
}
