// Shop is a web app whose users log in with Signet.
import express from 'express';
import session from 'express-session';
import { login } from './login.js';

const { ISSUER, CLIENT_SECRET, SESSION_SECRET, APP_URL } = process.env;
const { routes, loggedIn, userinfo } = await login({ issuer: ISSUER, clientId: 'shop', secret: CLIENT_SECRET, app: APP_URL });

const app = express();
app.disable('x-powered-by');
app.use(session({
  name: 'shop_session',
  secret: SESSION_SECRET,
  resave: false,
  saveUninitialized: false,
  // Lax: it comes along when Signet sends the browser back here, and not with what other sites post.
  cookie: { httpOnly: true, sameSite: 'lax', secure: APP_URL.startsWith('https:'), maxAge: 12 * 60 * 60 * 1000 },
  // store: sessions are in memory. In production give it a store, such as connect-redis.
}));
app.use((req, res, next) => {
  res.set('Cache-Control', 'no-store'); // all pages are for one user
  next();
});
app.use(routes);

app.get('/', (req, res) => show(res, req.session.user ? `You are ${req.session.user.preferred_username}.` : 'You are not logged in.'));

// What an API says, which is Signet's own userinfo endpoint here. Yours takes the access token the same way.
app.get('/orders', loggedIn, async (req, res) => {
  const about = await userinfo(req.session);
  show(res, `The orders of ${about.preferred_username}, whom the API knows as ${about.sub}.`);
});

function show(res, text) {
  res.send(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Shop</title>
<p>${text.replace(/[&<>]/g, (c) => `&#${c.charCodeAt(0)};`)}</p>
<p><a href="/login">Log in</a> · <a href="/orders">Orders</a></p>
<form method="post" action="/logout"><button>Log out</button></form>
</html>
`);
}

app.listen(new URL(APP_URL).port, '127.0.0.1');
