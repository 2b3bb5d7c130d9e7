#!/usr/bin/env bash
# Plays the loop against a fresh `cargo xtask dev` and prints docs/journey.md, so that the page is
# what really happened:   sudo -E docs/journey.sh > docs/journey.md.new && mv docs/journey.md{.new,}
# It needs curl, jq and git.
set -euo pipefail
cd "$(dirname "$0")/.."
state=$(mktemp -d)
chmod 755 "$state"
quit() {
    cargo xtask stop --state "$state" >&2 || true
    rm -rf "$state"
}
trap quit EXIT
machine=$(cargo xtask dev --detach --json --yes --state "$state" --bridge inplace_doc --subnet 10.61.0.0/16 --port 18080 --console-port 18443)
field() { jq -r ".$1" <<<"$machine"; }
FUNCTIONS=$(field url) CONSOLE=$(field console) STATE=$state
PASSWORD=$(field password)

say() { printf '\n%s\n' "$*"; }
# Shows a command, runs it, shows what it printed, with what differs from run to run made short.
# Times and the password are not interesting; hashes are, so they stay.
run() {
    {
        printf '\n```console\n$ %s\n' "$1"
        { eval "$1" || printf '(exit status %s)\n' $?; } 2>&1 | sed '$a\'
        printf '```\n'
    } | sed -e "s#$PASSWORD#PASSWORD#g" -e "s#$STATE#STATE#g"
}
api() { curl -sS -u "admin:$PASSWORD" -H 'content-type: application/json' "$@"; }
wait_for() { for _ in $(seq 500); do [ "$(curl -s "$FUNCTIONS/function/$1")" = "$2" ] && return; sleep 0.02; done; return 1; }
wait_state() { for _ in $(seq 500); do [ "$(api "$CONSOLE/v1/functions/$1" | jq -r .state)" = "$2" ] && return; sleep 0.02; done; return 1; }
handler() { printf 'def handle(event, context):\n    return {"statusCode": 200, "body": "%s"}\n' "$1"; }
# The process of the machine that runs a program; its command line names the state folder.
process() { pgrep -f "/$1 .*$STATE" | head -n 1; }
now() { echo "${EPOCHREALTIME/./}"; }
# kill -9, then, in milliseconds: until a call of the function is answered, until the API answers
# and the process has a successor.
killed() {
    local old start answered
    old=$(process "$1")
    start=$(now)
    kill -9 "$old"
    until [ "$(curl -s "$FUNCTIONS/function/hello")" = "$2" ]; do :; done
    answered=$((($(now) - start) / 1000))
    until [ -n "$(process "$1")" ] && [ "$(process "$1")" != "$old" ] && api -f "$CONSOLE/v1/functions" >/dev/null 2>&1; do :; done
    echo "| $1 | $answered ms | $((($(now) - start) / 1000)) ms |"
}

cat <<'END'
# The journey

Recorded by `docs/journey.sh` from a real run on a plain Debian host; nothing on this page was typed by hand but the sentences.
`$FUNCTIONS` and `$CONSOLE` are the two addresses that `cargo xtask dev` printed, `STATE` its state folder, and `api` is `curl -u admin:PASSWORD -H 'content-type: application/json'`.

## A function
END
run "api \$CONSOLE/v1/functions -d '{\"name\": \"hello\", \"template\": \"python3-http\"}' | jq"
run "curl -sS \$FUNCTIONS/function/hello"
run "ls -A $STATE/functions/hello"

say "## Edit it in place"
say "A save is all there is to do; the answer to the next call is the new one. \`took_ms\` is the time from the event of the save until the new version answered *and* was on the disk; \`parts\` says where it went."
run "handler 'edited in place' > $STATE/functions/hello/handler.py"
wait_for hello "edited in place"
run "curl -sS \$FUNCTIONS/function/hello"
run "api \$CONSOLE/v1/functions/hello | jq '{state, dirty, live}'"
say "The same over the API, for who has no shell on the machine:"
run "handler 'edited over the API' | api -X PUT --data-binary @- \$CONSOLE/v1/functions/hello/files/handler.py -o /dev/null -w '%{http_code}\\n'"
wait_for hello "edited over the API"
run "curl -sS \$FUNCTIONS/function/hello"

say "## Break it"
say "A save that does not start never takes the function down."
run "echo 'def handle(event, context:' > $STATE/functions/hello/handler.py"
wait_state hello degraded
run "curl -sS \$FUNCTIONS/function/hello"
run "api \$CONSOLE/v1/functions/hello | jq '{state, last_error}'"
handler 'first version' >"$STATE/functions/hello/handler.py"
wait_for hello 'first version'

say "## Commit it in place"
say "One call makes a git commit of the folder and an image in containerd's own store. The stream is BuildKit's progress; its last line is the revision."
run "api \$CONSOLE/v1/functions/hello/commit?wait=true -d '{\"message\": \"the first version\"}'"
run "git -c safe.directory='*' -C $STATE/functions/hello log --oneline"
say "A plain \`git commit\` in the folder does the same."
handler 'second version' >"$STATE/functions/hello/handler.py"
wait_for hello 'second version'
chown 1000:1000 "$STATE/functions/hello/handler.py"
run "setpriv --reuid 1000 --regid 1000 --clear-groups env HOME=/tmp git -C $STATE/functions/hello -c user.name=Ann -c user.email=ann@example.org commit -qam 'the second version'"
for _ in $(seq 500); do [ "$(api "$CONSOLE/v1/functions/hello/revisions" | jq length)" = 2 ] && break; sleep 0.02; done
run "api \$CONSOLE/v1/functions/hello/revisions | jq -c '.[]'"
say "Nothing changed is said, not built:"
run "api \$CONSOLE/v1/functions/hello/commit?wait=true -d '{}' | jq"

say "## Go back"
say "Source and image return in one step; what was not committed is kept at a git reference."
handler 'typed, not committed' >"$STATE/functions/hello/handler.py"
wait_for hello 'typed, not committed'
run "api \$CONSOLE/v1/functions/hello/rollback -d '{\"revision\": 1}' | jq"
run "curl -sS \$FUNCTIONS/function/hello"
run "cat $STATE/functions/hello/handler.py"

say "## Kill things"
say "\`kill -9\` of each part; the function is called at once and without a pause, and then the API until it answers and the process has a successor. Restarts wait 200 ms. What the function itself runs in is never touched."
say "| killed | a call of the function is answered after | everything is back after |
| --- | --- | --- |"
for part in provider containerd buildkitd gateway; do killed $part 'first version'; done
say "And the loop goes on:"
handler 'edited after all of it' >"$STATE/functions/hello/handler.py"
wait_for hello 'edited after all of it'
run "curl -sS \$FUNCTIONS/function/hello"

say "## Remove it, and take it back"
run "api -X DELETE \$CONSOLE/v1/functions/hello -w '%{http_code}\\n'"
run "api \$CONSOLE/v1/trash | jq -c '.[]'"
id=$(api "$CONSOLE/v1/trash" | jq -r '.[0].id')
run "api \$CONSOLE/v1/functions -d '{\"name\": \"hello\", \"restore\": \"$id\"}' | jq -c '{name, state, revision}'"
wait_for hello 'edited after all of it'
run "curl -sS \$FUNCTIONS/function/hello"

say "## Figures"
say "\`cargo xtask bench\` on the same host ($(nproc) cores, $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1), release programs), milliseconds. \`live\` is measured from outside: from the close of the saved file until a call answers with the new code. Each peer ran in the same run, turn by turn with ours."
printf '\n```\n'
cargo xtask bench --yes 2>/dev/null
printf '```\n'
say "| limit | measured (median) |
| --- | --- |
| save to new code answering, with the spare: 40 ms | first row |
| without the spare: 60 ms and the interpreter's own start | \`live, without the spare\` less \`process start\` |
| version of 5,000 files, one changed: 60 ms | \`version of 5,000 files\` |
| commit of one changed file: 1.2 × \`buildctl\` | \`commit\` over \`peer: buildctl\` |
| gateway and watchdog over the bare process: 0.5 ms | \`call: gateway, watchdog, process\` less \`peer: the bare process\` |"
