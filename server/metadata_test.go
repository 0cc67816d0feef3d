package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func TestMetadata(t *testing.T) {
	for name, c := range map[string]struct{ issuer, path string }{
		"of an issuer without a path": {issuer, "/.well-known/oauth-authorization-server"},
		"of an issuer with a path":    {"https://example.com/auth", "/.well-known/oauth-authorization-server/auth"},
		"of a loopback issuer":        {"http://localhost:8080", "/.well-known/oauth-authorization-server"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, r *replica) {
				// The issuer is the configured one, whatever the request says.
				a := r.get(t, c.path, header("X-Forwarded-Host", "evil.example.com"), header("X-Forwarded-Proto", "http"),
					header("Forwarded", "host=evil.example.com"), func(req *http.Request) { req.Host = "evil.example.com" })
				a.want(t, http.StatusOK, "")
				if got := a.header.Get("Content-Type"); got != "application/json" {
					t.Errorf("Content-Type is %q", got)
				}
				if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("X-Request-Id") == "" {
					t.Errorf("the headers of every answer are missing: %v", a.header)
				}
				if got := a.header.Get("Access-Control-Allow-Origin"); got != "*" {
					t.Errorf("Access-Control-Allow-Origin is %q: scripts could not read it", got)
				}
				methods := []any{"client_secret_basic", "client_secret_post", "none", "private_key_jwt"}
				algs := []any{"RS256", "PS256", "ES256", "EdDSA"}
				strs := func(words string) (list []any) {
					for w := range strings.FieldsSeq(words) {
						list = append(list, w)
					}
					return list
				}
				equal(t, "the document", a.json, map[string]any{
					"issuer": c.issuer, "authorization_endpoint": c.issuer + "/authorize", "token_endpoint": c.issuer + "/token",
					"userinfo_endpoint": c.issuer + "/userinfo", "end_session_endpoint": c.issuer + "/logout", "device_authorization_endpoint": c.issuer + "/device_authorization",
					"jwks_uri":                 c.issuer + "/.well-known/jwks.json",
					"scopes_supported":         strs("openid profile email phone groups offline_access signet:admin signet:account"),
					"response_types_supported": strs("code"), "response_modes_supported": strs("query fragment form_post"),
					"grant_types_supported":   strs("authorization_code password refresh_token client_credentials urn:ietf:params:oauth:grant-type:device_code urn:ietf:params:oauth:grant-type:token-exchange"),
					"subject_types_supported": strs("public"), "id_token_signing_alg_values_supported": strs("RS256 ES256 PS256 EdDSA"),
					"token_endpoint_auth_methods_supported": methods,
					"revocation_endpoint":                   c.issuer + "/revoke", "revocation_endpoint_auth_methods_supported": methods,
					"introspection_endpoint": c.issuer + "/introspect", "introspection_endpoint_auth_methods_supported": []any{methods[0], methods[1], methods[3]},
					"token_endpoint_auth_signing_alg_values_supported": algs, "revocation_endpoint_auth_signing_alg_values_supported": algs,
					"introspection_endpoint_auth_signing_alg_values_supported": algs, "introspection_signing_alg_values_supported": algs[:1],
					"pushed_authorization_request_endpoint": c.issuer + "/par", "require_pushed_authorization_requests": false,
					"dpop_signing_alg_values_supported": []any{"ES256", "PS256", "EdDSA"},
					"code_challenge_methods_supported":  strs("S256"), "authorization_response_iss_parameter_supported": true,
					"claims_supported": strs("sub iss aud exp iat auth_time nonce acr amr at_hash sid name given_name family_name preferred_username " +
						"picture locale zoneinfo updated_at email email_verified phone_number phone_number_verified groups"),
					"claim_types_supported": strs("normal"), "claims_parameter_supported": true,
					"request_parameter_supported": false, "request_uri_parameter_supported": false,
					"prompt_values_supported": strs("none login consent select_account"), "acr_values_supported": strs("aal1 aal2"),
					"ui_locales_supported":         strs("en de es fr zh"),
					"backchannel_logout_supported": true, "backchannel_logout_session_supported": true,
				})
				if oidc := r.get(t, "/.well-known/openid-configuration"); oidc.body != a.body {
					t.Errorf("the discovery document says something else:\n%s", oidc.body)
				}
			}, func(s *settings) { s.issuer = c.issuer })
		})
	}
}

// Forwarded headers have no say in a token's issuer either.
func TestIssuerOfTokens(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		a := r.post(t, "/token", c, form("grant_type", "client_credentials"), header("X-Forwarded-Host", "evil.example.com"),
			func(req *http.Request) { req.Host = "evil.example.com" }).issued(t)
		_, claims := decode(t, a.text("access_token"))
		if claims["iss"] != issuer || claims["aud"] != issuer {
			t.Errorf("iss is %v, aud %v", claims["iss"], claims["aud"])
		}
	}, func(s *settings) { s.proxies = loopback })
}

// The documents are read by machines that may not keep them for long: they have to be what they were a second ago.
func TestDocumentsAreStable(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		for _, path := range []string{"/.well-known/jwks.json", "/.well-known/oauth-authorization-server"} {
			first := r.get(t, path)
			if !json.Valid([]byte(first.body)) || r.get(t, path).body != first.body {
				t.Errorf("%s is answered differently each time", path)
			}
			// A client that is used to sending credentials everywhere is served all the same.
			r.get(t, path, header("Authorization", "Bearer x")).want(t, http.StatusOK, "")
		}
	})
}
