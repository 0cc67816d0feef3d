// An MCP server with two tools: it keeps each user's notes. Who has no token is told where to get one.
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { createMcpExpressApp } from '@modelcontextprotocol/sdk/server/express.js';
import { getOAuthProtectedResourceMetadataUrl, mcpAuthMetadataRouter } from '@modelcontextprotocol/sdk/server/auth/router.js';
import { requireBearerAuth } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js';
import { InvalidTokenError } from '@modelcontextprotocol/sdk/server/auth/errors.js';
import { createRemoteJWKSet, errors, jwtVerify } from 'jose';
import { z } from 'zod';

const { ISSUER, MCP_PORT } = process.env;
const resource = new URL(`http://127.0.0.1:${MCP_PORT}/mcp`); // what tokens for this server have as their audience
const notes = new Map(); // by the user's id

const app = createMcpExpressApp();

// Where a client learns which server's tokens are taken here (RFC 9728).
const oauthMetadata = await (await fetch(`${ISSUER}/.well-known/oauth-authorization-server`)).json();
app.use(mcpAuthMetadataRouter({ oauthMetadata, resourceServerUrl: resource, scopesSupported: ['notes'], resourceName: 'Notes' }));

const keys = createRemoteJWKSet(new URL(oauthMetadata.jwks_uri));
const verifier = {
  async verifyAccessToken(token) {
    try {
      const expected = { issuer: ISSUER, audience: resource.href, typ: 'at+jwt', algorithms: ['ES256'] };
      const { payload } = await jwtVerify(token, keys, expected);
      return { token, clientId: payload.client_id, scopes: payload.scope.split(' '), expiresAt: payload.exp, resource, extra: { user: payload.sub } };
    } catch (error) {
      if (error instanceof errors.JOSEError && !(error instanceof errors.JWKSTimeout)) {
        throw new InvalidTokenError('the token is bad or has expired');
      }
      throw error; // the keys could not be fetched: that is not the token's fault
    }
  },
};
const locked = requireBearerAuth({
  verifier, requiredScopes: ['notes'], resourceMetadataUrl: getOAuthProtectedResourceMetadataUrl(resource),
});

function newServer() {
  const server = new McpServer({ name: 'notes', version: '1.0.0' });
  const mine = (extra) => notes.get(extra.authInfo.extra.user) ?? [];
  const say = (text) => ({ content: [{ type: 'text', text }] });
  server.registerTool('add', { description: 'Keep a note', inputSchema: { text: z.string().max(1000) } }, ({ text }, extra) => {
    notes.set(extra.authInfo.extra.user, [...mine(extra), text]);
    return say(`kept, with ${mine(extra).length - 1} others`);
  });
  server.registerTool('list', { description: 'List the notes', inputSchema: {} }, (_, extra) => say(mine(extra).join('\n') || 'no notes'));
  return server;
}

app.post('/mcp', locked, async (req, res) => {
  const server = newServer();
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined }); // it keeps nothing between requests
  res.on('close', () => server.close());
  await server.connect(transport);
  await transport.handleRequest(req, res, req.body);
});
app.all('/mcp', locked, (req, res) => res.status(405).set('Allow', 'POST').end());
app.listen(MCP_PORT, '127.0.0.1');
