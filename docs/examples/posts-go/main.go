// Posts is an API that shows callers their own posts. Who they are it learns from Signet's access tokens, which it verifies
// by itself, with the keys that Signet publishes.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/gin-gonic/gin"
	"github.com/golang-jwt/jwt/v5"
)

// audience is this API's name: it takes no token that was issued for another one.
const audience = "https://posts.example.com"

type post struct {
	Author string `json:"author"` // a user's id: the sub of the user's tokens
	Title  string `json:"title"`
}

type claims struct {
	jwt.RegisteredClaims

	Scope string `json:"scope"`
}

func main() {
	var posts []post
	file, err := os.ReadFile("posts.json")
	if err == nil {
		err = json.Unmarshal(file, &posts)
	}
	if err != nil {
		log.Fatal(err)
	}
	issuer := os.Getenv("ISSUER")
	// It fetches the keys now, again every hour, and when a token names one that it has not seen.
	keys, err := keyfunc.NewDefault([]string{issuer + "/.well-known/jwks.json"})
	if err != nil {
		log.Fatal(err)
	}

	gin.SetMode(gin.ReleaseMode)
	api := gin.New()
	api.GET("/posts", authenticate(keys, issuer), allow("posts:read"), func(c *gin.Context) {
		own := []post{}
		for _, p := range posts {
			if p.Author == c.GetString("user") {
				own = append(own, p)
			}
		}
		c.JSON(http.StatusOK, own)
	})
	log.Fatal(api.Run("127.0.0.1:" + os.Getenv("API_PORT")))
}

// authenticate lets through who shows a good token, and notes whose it is and what it allows.
func authenticate(keys keyfunc.Keyfunc, issuer string) gin.HandlerFunc {
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{"ES256"}), // never the algorithm that the token wishes for
		jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired(),
	)
	return func(c *gin.Context) {
		scheme, raw, _ := strings.Cut(c.GetHeader("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || raw == "" {
			c.Header("WWW-Authenticate", "Bearer")
			c.AbortWithStatusJSON(http.StatusUnauthorized, gin.H{"error": "log in first"})
			return
		}
		var claims claims
		token, err := parser.ParseWithClaims(raw, &claims, keys.KeyfuncCtx(c.Request.Context()))
		if err != nil || token.Header["typ"] != "at+jwt" {
			c.Header("WWW-Authenticate", `Bearer error="invalid_token"`)
			c.AbortWithStatusJSON(http.StatusUnauthorized, gin.H{"error": "the token is bad or has expired"})
			return
		}
		c.Set("user", claims.Subject)
		c.Set("scope", strings.Fields(claims.Scope))
	}
}

// allow lets through whose token holds the scope.
func allow(scope string) gin.HandlerFunc {
	return func(c *gin.Context) {
		if !slices.Contains(c.GetStringSlice("scope"), scope) {
			c.AbortWithStatusJSON(http.StatusForbidden, gin.H{"error": "the token does not allow " + scope})
		}
	}
}
