# What the run scripts share: Signet on an embedded database, with the clients and users that an example needs.
# Settings, by environment: AUTH_PORT and the ports of the example; DATA, where all state is kept (.data beside the
# script; delete it to begin anew); SIGNET, a signet program to use instead of building this one. SIGNET_… go to Signet.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
AUTH_PORT=${AUTH_PORT:-8080}
mkdir -p "${DATA:=$here/.data}"
DATA=$(cd "$DATA" && pwd)
export ISSUER="http://127.0.0.1:$AUTH_PORT"

# Whatever ends the script, Ctrl-C among it, ends what it started.
started=
trap 'trap - EXIT; for pid in $started; do kill "$pid" 2>/dev/null || true; done; wait' EXIT
trap 'exit 0' INT TERM HUP

start_signet() {
	export SIGNET_ISSUER="$ISSUER" SIGNET_LISTEN="127.0.0.1:$AUTH_PORT" SIGNET_MANAGEMENT_LISTEN=
	export SIGNET_DRAIN_DELAY="${SIGNET_DRAIN_DELAY:-0}" # Ctrl-C ends it at once
	export SIGNET_DATA_DIR="$DATA" SIGNET_DATABASE_URL="sqlite:$DATA/signet.db" SIGNET_LOG_FORMAT=json
	if [ -z "${SIGNET-}" ]; then
		SIGNET=$DATA/signet
		(cd "$here/../../.." && CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$SIGNET" ./cmd/signet)
	fi
	cd "$DATA" # away from anybody's .env
	: >signet.log
	"$SIGNET" serve >signet.log 2>&1 &
	started="$started $!"
	until grep -q '"msg":"ready"' signet.log; do
		if ! kill -0 "$!" 2>/dev/null; then
			tail -n 1 signet.log >&2
			exit 1
		fi
		sleep 0.1
	done
}

# client ID FLAG… registers a client, if it is not there.
client() {
	"$SIGNET" client show "$1" >/dev/null 2>&1 || "$SIGNET" client create --id "$@" >/dev/null
}

# secret_client ID FLAG… likewise, and prints its secret, which is kept in the data directory.
secret_client() {
	if [ ! -s "$DATA/$1.secret" ]; then
		(umask 077 && "$SIGNET" client create --id "$@" -o json | sed -n 's/.*"client_secret": "\(.*\)",/\1/p' >"$DATA/$1.secret")
	fi
	cat "$DATA/$1.secret"
}

# user NAME PASSWORD makes a user, if it is not there, and prints its id: the `sub` of its tokens.
user() {
	"$SIGNET" user show "$1" >/dev/null 2>&1 || printf %s "$2" | "$SIGNET" user create "$1" --password-stdin >/dev/null
	"$SIGNET" user show "$1" -o json | sed -n 's/.*"id": "\(.*\)",/\1/p'
}

# npm_install installs what the example's package-lock.json says, if that has not been done.
npm_install() {
	if [ ! "$here/node_modules/.package-lock.json" -nt "$here/package-lock.json" ]; then
		npm ci --prefix "$here" --omit=dev --no-fund --no-audit --loglevel=error
	fi
}

# start COMMAND… starts a program beside Signet. One that ends at once, because its port is taken, has said so, and ends the script.
start() {
	"$@" &
	started="$started $!"
	sleep 1
	kill -0 "$!" 2>/dev/null || exit 1
}
