import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Signet, anonymous, audience, claims, header, other, secret, tampered, unsigned } from './signet.mjs';
import * as verifiers from './verifiers.mjs';

const libraries = {
  ES256: ['withJose', 'withJsonwebtoken', 'withAwsJwtVerify', 'withOauth4webapi', 'withPassportJwt', 'withExpressOauth2JwtBearer'],
  RS256: ['withJose', 'withJsonwebtoken', 'withAwsJwtVerify', 'withOauth4webapi', 'withPassportJwt', 'withExpressOauth2JwtBearer'],
  EdDSA: ['withJose', 'withAwsJwtVerify', 'withOauth4webapi', 'withExpressOauth2JwtBearer'],
  HS256: ['withJoseAndSecret', 'withJsonwebtokenAndSecret', 'withPassportJwtAndSecret', 'withExpressOauth2JwtBearerAndSecret'],
};

// Those look for an unknown key only some time after they last fetched the set: 30 seconds, oauth4webapi a minute.
const patient = ['withJose', 'withOauth4webapi', 'withExpressOauth2JwtBearer'];

describe('APIs', { concurrency: true }, () => {
  for (const [algorithm, names] of Object.entries(libraries)) {
    test(algorithm, (t) => Signet.with(algorithm, async (s) => {
      const good = await s.login(audience);
      const { sub } = claims(good);
      assert.ok(sub);
      assert.equal(header(good).alg, algorithm);
      await sleep(Math.max(0, (claims(s.expired).exp + 6) * 1000 - Date.now())); // express-oauth2-jwt-bearer allows for 5 seconds

      const make = (name) => verifiers[name]({ issuer: s.issuer, audience, algorithm, secret }, t);
      const verify = {};
      for (const name of names) verify[name] = await make(name);
      const accepted = async (what, token) => {
        for (const name of names) {
          const got = await verify[name](token).catch((err) => err);
          assert.equal(got.sub, sub, `${name}, ${what}: ${got}`);
        }
      };
      const refused = async (what, token) => {
        for (const name of names) await assert.rejects(async () => verify[name](token), `${name} accepts ${what}`);
      };
      await accepted('a good token', good);
      await accepted('a token of two audiences', await s.login(''));
      await refused('a token for another audience', await s.login(other));
      await refused('an expired token', s.expired);
      await refused('a tampered token', tampered(good));
      await refused('an unsigned token', unsigned(good));
      await refused('a token of nobody, without a signature', anonymous(algorithm));
      await refused('no token at all', 'opaque');
      if (algorithm === 'HS256') return;

      // The first new key was in the set when the verifiers read it.
      await accepted('after a key rotation', await s.rotate());
      // The second one they have to look for.
      const newest = await s.rotate();
      for (const name of patient.filter((name) => names.includes(name))) verify[name] = await make(name);
      await accepted('after another key rotation', newest);
      await accepted('an old token', good);
      await refused('a tampered token after key rotations', tampered(good));
    }));
  }
});
