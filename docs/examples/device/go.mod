module box

go 1.26.0

require (
	github.com/mdp/qrterminal/v3 v3.2.1
	golang.org/x/oauth2 v0.37.0
)

require (
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/term v0.47.0 // indirect
	rsc.io/qr v0.2.0 // indirect
)
