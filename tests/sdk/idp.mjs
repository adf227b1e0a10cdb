// The identity provider of the end-to-end tests: the real `oidc-provider`, client-credentials
// grant, JWT access tokens whose audience is the `resource` asked for (RFC 8707).
//
// argv[2] is a JSON plan: { port, resources: [url], clients: [{id, secret, groups, alg, ttl_s}] }.
// It prints `ready ISSUER` when it listens. It holds no state worth keeping.
import { exportJWK, generateKeyPair } from 'jose';
import { Provider, errors } from 'oidc-provider';
import { createServer } from 'node:http';

const plan = JSON.parse(process.argv[2]);
const byId = new Map(plan.clients.map((client) => [client.id, client]));

async function signingKey(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), alg, use: 'sig', kid: `key-${alg.toLowerCase()}` };
}

const server = createServer();
await new Promise((done) => server.listen(plan.port, '127.0.0.1', done));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: plan.clients.map((client) => ({
    client_id: client.id,
    client_secret: client.secret,
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    token_endpoint_auth_method: client.auth ?? 'client_secret_basic',
  })),
  jwks: { keys: [await signingKey('RS256'), await signingKey('ES256')] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      // Asking without a `resource` yields a token for the first one, as a default API would.
      defaultResource: () => plan.resources[0],
      getResourceServerInfo(ctx, resource, client) {
        if (!plan.resources.includes(resource)) throw new errors.InvalidTarget();
        const { alg, ttl_s } = byId.get(client.clientId);
        return {
          scope: '',
          audience: resource,
          accessTokenFormat: 'jwt',
          accessTokenTTL: ttl_s ?? 3600,
          jwt: { sign: { alg } },
        };
      },
    },
  },
  extraTokenClaims: (ctx, token) => ({ groups: byId.get(token.clientId)?.groups ?? [] }),
});
provider.on('server_error', (ctx, error) => console.error('server_error', error));
provider.on('grant.error', (ctx, error) => console.error('grant.error', error.message));
server.on('request', provider.callback());
console.log(`ready ${issuer}`);
