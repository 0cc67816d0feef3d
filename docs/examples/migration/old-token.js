// What the old auth server did at a login.
import jwt from 'jsonwebtoken';

console.log(jwt.sign({ name: process.argv[2] }, process.env.ACCESS_TOKEN_SECRET, { expiresIn: '15m' }));
