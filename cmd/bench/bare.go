package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// bareCommand makes this program the bare server: what a tutorial would write on the same libraries, and no more. It
// authenticates no client, checks no token against its session, and knows neither reuse nor revocation.
const bareCommand = "bare"

// serveBare answers on the address, over the floors' table in the database at the URL, until the process is ended.
func serveBare(ctx context.Context, addr, databaseURL string) error {
	cfg, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return err
	}
	cfg.MaxConns = 16 // as many as Signet's
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.POST("/refresh", func(c *gin.Context) {
		var until time.Time
		if err := pool.QueryRow(c, `
			UPDATE floor SET last_used_at = now(), idle_expires_at = now() + '30 days'
			WHERE id = $1 RETURNING idle_expires_at`, rowID(c.PostForm("id"))).Scan(&until); err != nil {
			_ = c.AbortWithError(http.StatusInternalServerError, err)
			return
		}
		token, err := bareToken(key, c.PostForm("id"))
		if err != nil {
			_ = c.AbortWithError(http.StatusInternalServerError, err)
			return
		}
		c.JSON(http.StatusOK, gin.H{
			"access_token": token, "token_type": "Bearer", "expires_in": 900, "scope": "read write",
			"refresh_token": c.PostForm("refresh_token"),
		})
	})
	r.GET("/token/:id", func(c *gin.Context) {
		token, err := bareToken(key, c.Param("id"))
		if err != nil {
			_ = c.AbortWithError(http.StatusInternalServerError, err)
			return
		}
		c.String(http.StatusOK, token)
	})
	r.POST("/introspect", func(c *gin.Context) {
		claims := jwt.MapClaims{}
		if _, err := jwt.ParseWithClaims(c.PostForm("token"), claims, func(*jwt.Token) (any, error) { return &key.PublicKey, nil }); err != nil {
			_ = c.AbortWithError(http.StatusBadRequest, err)
			return
		}
		subject, _ := claims["sub"].(string)
		var sequence int64
		var until time.Time
		if err := pool.QueryRow(c, `SELECT sequence, idle_expires_at FROM floor WHERE id = $1`, rowID(subject)).Scan(&sequence, &until); err != nil {
			_ = c.AbortWithError(http.StatusInternalServerError, err)
			return
		}
		claims["active"] = true
		c.JSON(http.StatusOK, claims)
	})
	server := &http.Server{Addr: addr, Handler: r, ReadHeaderTimeout: time.Second}
	return server.ListenAndServe()
}

// rowID reads the id of a row of the floors; a bad one finds none.
func rowID(text string) (id [16]byte) {
	_, _ = hex.Decode(id[:], []byte(text[:min(len(text), 2*len(id))]))
	return id
}

func bareToken(key *ecdsa.PrivateKey, subject string) (string, error) {
	now := time.Now()
	return jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": "http://localhost:8080", "sub": subject, "aud": "https://api.example.com", "exp": now.Add(15 * time.Minute).Unix(),
		"iat": now.Unix(), "jti": rand.Text(), "client_id": "app", "scope": "read write", "sid": subject,
	}).SignedString(key)
}

// startBare starts this program again as the bare server. It ends with ctx.
func startBare(ctx context.Context, databaseURL string) (addr string, err error) {
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	if addr, err = freeAddr(); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, bareCommand, addr, databaseURL)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	for range 500 {
		if c, err := dial(ctx, addr); err == nil {
			return addr, c.conn.Close()
		}
		select {
		case err := <-exited:
			return "", fmt.Errorf("the bare server does not start: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return "", errors.New("the bare server does not start within 5 s")
}

// bareRefresh and bareIntrospect ask the bare server about the rows of the floors, in requests of the size that Signet's have.
func (f *floors) bareRefresh(ctx context.Context, n int) ([]step, func(), error) {
	s := scenario{name: "bare refresh", want: `"access_token":"`}
	for _, row := range f.rows {
		form := "grant_type=refresh_token&id=" + hex.EncodeToString(row.id[:]) + "&refresh_token=" + rand.Text() + rand.Text()
		s.requests = append(s.requests, postRequest(f.bare, "/refresh", basic("app", rand.Text()), form))
	}
	return s.workers(ctx, f.bare, n)
}

func (f *floors) bareIntrospect(ctx context.Context, n int) ([]step, func(), error) {
	s := scenario{name: "bare introspect", want: `"active":true`}
	for _, row := range f.rows {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.bare+"/token/"+hex.EncodeToString(row.id[:]), nil)
		if err != nil {
			return nil, nil, err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, nil, err
		}
		token, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			return nil, nil, err
		}
		s.requests = append(s.requests, postRequest(f.bare, "/introspect", basic("app", rand.Text()), "token="+string(token)))
	}
	return s.workers(ctx, f.bare, n)
}
