// An API that says who calls. Its lock is one of the three files beside it.
import express from 'express';

const { authenticate } = await import(`./${process.env.LOCK}`);
const api = express().disable('x-powered-by');
api.get('/whoami', authenticate, (req, res) => res.json({ user: req.user }));
api.listen(process.env.API_PORT, '127.0.0.1');
