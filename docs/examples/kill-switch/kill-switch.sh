# Ways to invalidate every token of a user. The API asks Signet about each token that it is sent.

ask() { # PATH PARAMETER…: a form for Signet
	path=$1 && shift
	curl -sS "$ISSUER$path" "$@"
}

get() { # NAME: that member of a JSON answer
	sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p"
}

# What each app says of itself. The phone app may look after the user's account.
as() {
	case $1 in
	phone) echo -d client_id=phone -d scope=signet:account ;;
	tablet) echo -d client_id=tablet ;;
	web) echo -u "web:$WEB_SECRET" ;;
	esac
}

keep() { # APP ANSWER: the tokens that an app has got
	echo "$1 $(echo "$2" | get access_token) $(echo "$2" | get refresh_token)"
}

# shellcheck disable=SC2046 # what an app says of itself are several words
log_in() { # PASSWORD
	for app in phone phone tablet web web; do
		keep "$app" "$(ask /token $(as "$app") -d grant_type=password -d username=alice -d "password=$1")"
	done >sessions
	echo "Alice logs in on two phones, a tablet and two browsers:"
	check 5
}

# shellcheck disable=SC2046
check() { # ALIVE: how many sessions should be
	alive=0
	while read -r app access refresh; do
		active=$(ask /introspect -u "api:$API_SECRET" -d "token=$access" | get active)
		answer=$(ask /token $(as "$app") -d grant_type=refresh_token -d "refresh_token=$refresh")
		error=$(echo "$answer" | get error)
		printf '  %-8s at the API: active %-7s at the refresh: %s\n' "$app" "$active" "${error:-new tokens}"
		if [ "$active" = true ] && [ -z "$error" ]; then alive=$((alive + 1)); fi
		if [ -z "$error" ]; then keep "$app" "$answer" >&3; fi
	done <sessions 3>sessions.new
	mv sessions.new sessions
	if [ "$alive" != "$1" ]; then
		echo "$alive sessions are alive instead of $1" >&2
		exit 1
	fi
}

user alice wonderland >/dev/null
printf wonderland | "$SIGNET" user set-password alice --password-stdin >/dev/null # an earlier run has left another

log_in wonderland
echo "A laptop is stolen:         signet user logout alice"
"$SIGNET" user logout alice >/dev/null
check 0

log_in wonderland
echo "The account was hacked:     signet user set-password alice"
printf 'through the looking-glass' | "$SIGNET" user set-password alice --password-stdin >/dev/null
check 0

log_in 'through the looking-glass'
echo "Alice, on her first phone:  DELETE /account/sessions"
read -r _ access _ <sessions
curl -sS -X DELETE -H "Authorization: Bearer $access" "$ISSUER/account/sessions"
check 1

echo "The record of it:           signet audit list --user alice"
"$SIGNET" audit list --user alice --since 1m -o json | sed -n 's/^.*"type": "\(.*\)",\{0,1\}$/  \1/p' | sort | uniq -c
