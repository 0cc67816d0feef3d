import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';
import { Signet, audience, claims, password, username } from './signet.mjs';

describe('clients', { concurrency: true }, () => {
  test('openid-client', () => Signet.with('ES256', async (s) => {
    const { client_id, client_secret } = s.client;

    // However the client authenticates: in the body, which is the library's way, or in the header.
    for (const authentication of [undefined, openid.ClientSecretBasic(client_secret)]) {
      const config = await openid.discovery(new URL(s.issuer), client_id, client_secret, authentication, {
        algorithm: 'oauth2', // RFC 8414; 'oidc' reads the same from OpenID Connect Discovery
        execute: [openid.allowInsecureRequests], // for development
      });
      assert.equal(config.serverMetadata().issuer, s.issuer);

      const tokens = await openid.genericGrantRequest(config, 'password', { username, password, scope: 'read' });
      assert.equal(tokens.token_type, 'bearer');
      assert.equal(tokens.scope, 'read');
      assert.equal(tokens.expires_in, 900);
      await assert.rejects(openid.genericGrantRequest(config, 'password', { username, password: 'wrong password' }), {
        name: 'ResponseBodyError', status: 400, error: 'invalid_grant',
      });

      const refreshed = await openid.refreshTokenGrant(config, tokens.refresh_token);
      assert.notEqual(refreshed.refresh_token, tokens.refresh_token);
      const known = await openid.tokenIntrospection(config, refreshed.access_token);
      assert.deepEqual([known.active, known.username, known.client_id, known.iss], [true, username, client_id, s.issuer]);

      await openid.tokenRevocation(config, refreshed.refresh_token);
      assert.deepEqual(await openid.tokenIntrospection(config, refreshed.access_token), { active: false });
      await assert.rejects(openid.refreshTokenGrant(config, refreshed.refresh_token), { status: 400, error: 'invalid_grant' });

      const own = await openid.clientCredentialsGrant(config, { resource: audience, scope: 'write' });
      assert.deepEqual([claims(own.access_token).sub, claims(own.access_token).aud, own.scope], [client_id, audience, 'write']);
      assert.equal(own.refresh_token, undefined);
    }
    const stranger = await openid.discovery(new URL(s.issuer), client_id, 'sgs_wrong', undefined, {
      algorithm: 'oauth2', execute: [openid.allowInsecureRequests],
    });
    // It tells the challenge of a 401 instead of the body.
    await assert.rejects(openid.clientCredentialsGrant(stranger), (err) => err.status === 401 && err.cause[0].scheme === 'basic');
  }));

  test('oauth4webapi', () => Signet.with('ES256', async (s) => {
    const insecure = { [oauth.allowInsecureRequests]: true }; // for development
    const url = new URL(s.issuer);
    const server = await oauth.processDiscoveryResponse(url, await oauth.discoveryRequest(url, { algorithm: 'oauth2', ...insecure }));
    const client = { client_id: s.client.client_id };

    for (const authenticate of [oauth.ClientSecretPost(s.client.client_secret), oauth.ClientSecretBasic(s.client.client_secret)]) {
      const login = (password) => oauth.genericTokenEndpointRequest(server, client, authenticate, 'password', { username, password }, insecure);
      const tokens = await oauth.processGenericTokenEndpointResponse(server, client, await login(password));
      assert.deepEqual([tokens.token_type, tokens.scope, tokens.expires_in], ['bearer', 'read write', 900]);
      await assert.rejects(oauth.processGenericTokenEndpointResponse(server, client, await login('wrong password')), {
        status: 400, error: 'invalid_grant',
      });

      const refreshed = await oauth.processRefreshTokenResponse(server, client,
        await oauth.refreshTokenGrantRequest(server, client, authenticate, tokens.refresh_token, insecure));
      assert.notEqual(refreshed.refresh_token, tokens.refresh_token);

      const introspect = async (token) => oauth.processIntrospectionResponse(server, client,
        await oauth.introspectionRequest(server, client, authenticate, token, insecure));
      const known = await introspect(refreshed.refresh_token);
      assert.deepEqual([known.active, known.username, known.token_type], [true, username, 'refresh_token']);

      await oauth.processRevocationResponse(await oauth.revocationRequest(server, client, authenticate, refreshed.refresh_token, insecure));
      assert.deepEqual(await introspect(refreshed.access_token), { active: false });
      await assert.rejects(async () => oauth.processRefreshTokenResponse(server, client,
        await oauth.refreshTokenGrantRequest(server, client, authenticate, refreshed.refresh_token, insecure)), { error: 'invalid_grant' });

      const own = await oauth.processClientCredentialsResponse(server, client,
        await oauth.clientCredentialsGrantRequest(server, client, authenticate, { resource: audience }, insecure));
      assert.equal(claims(own.access_token).aud, audience);
    }
  }));
});
