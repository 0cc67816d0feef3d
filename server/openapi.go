package server

import (
	"github.com/gin-gonic/gin"

	"signet/docs"
	"signet/server/oauth"
)

// describe adds /openapi.yaml, the description of all that the public listener serves but the console.
func describe(r gin.IRouter) {
	handler := func(c *gin.Context) { oauth.ServeDocument(c, "application/yaml", docs.OpenAPI) }
	r.GET("/openapi.yaml", handler)
	r.HEAD("/openapi.yaml", handler)
}
