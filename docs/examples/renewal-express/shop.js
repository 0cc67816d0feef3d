// Shop is a web app with a server of its own, which is a client of Signet. It keeps the tokens of its users in cookies, and
// renews them in passing: see renewal.js.
import cookieParser from 'cookie-parser';
import express from 'express';
import { authenticated, logIn, logOut } from './renewal.js';

const page = `<!doctype html><title>Shop</title><link rel="icon" href="data:,">
<form action="/login" method="post">
  <input name="username" placeholder="Name"> <input name="password" type="password" placeholder="Password"> <button>Log in</button>
</form>
<form action="/orders" method="post"><input name="item" placeholder="Item"> <button>Order</button></form>
<form action="/logout" method="post"><a href="/orders">My orders</a> <button>Log out</button></form>`;

const orders = new Map(); // by user id

const app = express().disable('x-powered-by');
app.use(express.urlencoded({ extended: false }), cookieParser(), ownPagesOnly);
app.get('/', (req, res) => res.send(page));
app.post('/login', logIn);
app.post('/logout', logOut);
app.get('/orders', authenticated, (req, res) => res.json(orders.get(req.user) ?? []));
app.post('/orders', authenticated, (req, res) => {
  orders.set(req.user, [...orders.get(req.user) ?? [], req.body.item]);
  res.json(orders.get(req.user));
});
app.use((err, req, res, next) => {
  console.error(err.message);
  res.status(503).set('Retry-After', '2').send('try again');
});
app.listen(process.env.APP_PORT, '127.0.0.1');

// Browsers send cookies whichever page calls: what changes something has to come from the shop's own.
function ownPagesOnly(req, res, next) {
  const site = req.get('Sec-Fetch-Site'), origin = req.get('Origin');
  const foreign = site ? site !== 'same-origin' && site !== 'none' : origin && origin !== `${req.protocol}://${req.get('Host')}`;
  if (foreign && req.method !== 'GET' && req.method !== 'HEAD') return res.status(403).send('the call comes from another site');
  next();
}
