// A program that calls the notes server. It knows the server's address and nothing else: which auth server there is, who it is
// there itself, and who its user is, it finds out.
//
//   node client.js list
//   node client.js add TEXT
import { fileURLToPath } from 'node:url';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { FileProvider } from './provider.js';

const [name = 'list', text] = process.argv.slice(2);
const address = new URL(process.env.MCP_SERVER ?? 'http://127.0.0.1:4100/mcp');
const provider = await FileProvider.open(process.env.TOKEN_FILE ?? fileURLToPath(new URL('.data/client.json', import.meta.url)));

async function connect() {
  const client = new Client({ name: 'notes-cli', version: '1.0.0' });
  const transport = new StreamableHTTPClientTransport(address, { authProvider: provider });
  try {
    await client.connect(transport);
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    await transport.finishAuth(await provider.code); // the user has been sent to log in
    await client.close();
    return connect();
  }
  return client;
}

try {
  const client = await connect();
  const result = await client.callTool({ name, arguments: name === 'add' ? { text } : {} });
  console.log(result.content.map((part) => part.text).join('\n'));
  await client.close();
} catch (error) {
  console.error(`client: ${error.message}`);
  process.exitCode = 1;
}
provider.close();
