// Notes is a web app and its API, on an origin each. The app's pages hold no token: the browser keeps them in cookies that
// Signet sets and no script can read, and sends them along.
package main

import (
	"embed"
	"html/template"
	"io/fs"
	"log"
	"net/http"
	"os"
)

//go:embed app
var files embed.FS

func main() {
	auth, app, api := os.Getenv("ISSUER"), "127.0.0.1:"+os.Getenv("APP_PORT"), "127.0.0.1:"+os.Getenv("API_PORT")
	notes, err := newAPI(auth, "http://"+app)
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.ListenAndServe(api, notes)) }()
	log.Fatal(http.ListenAndServe(app, pages(auth, "http://"+api)))
}

// pages serves the app. Its one page is told where the other two servers are, and may call nobody else.
func pages(auth, api string) http.Handler {
	index := template.Must(template.ParseFS(files, "app/index.html"))
	scripts, err := fs.Sub(files, "app")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{file}", http.FileServerFS(scripts))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; connect-src "+auth+" "+api+"; form-action 'none'; frame-ancestors 'none'; base-uri 'none'")
		if err := index.Execute(w, map[string]string{"Auth": auth, "API": api}); err != nil {
			log.Print(err)
		}
	})
	return mux
}
