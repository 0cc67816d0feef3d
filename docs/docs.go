// Package docs holds the documentation. Its tests keep the documentation in step with the code.
package docs

import _ "embed" // the server serves some of it

// OpenAPI is the description of the HTTP interface, in OpenAPI 3.1, which the server answers /openapi.yaml with.
//
//go:embed openapi.yaml
var OpenAPI []byte
