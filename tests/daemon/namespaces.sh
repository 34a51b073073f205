# Run by namespaces.rs as root of a user and network namespace of its own, in a temporary folder.
#   bash namespaces.sh PROGRAM
set -euo pipefail
ledger=$1
export PALYRA_LEDGER_HOME=$PWD/home
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

until_true() {
    for _ in $(seq 200); do
        if "$@"; then return; fi
        sleep 0.1
    done
    echo "this never came true: $*" >&2
    return 1
}

# Two stacks and a link between them.
ip link set lo up
unshare -n sleep 300 &
far=$!
apart() { [ "$(readlink /proc/self/ns/net)" != "$(readlink /proc/$far/ns/net)" ]; }
until_true apart
there() { nsenter -t "$far" -n "$@"; }
ip link add name near type veth peer name away
ip link set away netns "$far"
ip addr add 10.77.0.1/24 dev near
ip link set near up
there ip addr add 10.77.0.2/24 dev away
there ip link set away up

"$ledger" init
"$ledger" --format json serve --listen 10.77.0.1:7443 --pairing-listen 10.77.0.1:7444 >said 2>messages &
daemon=$!
until_true grep -q listening said

code=$("$ledger" --format json pairing mint | sed 's/.*"code": *"\([^"]*\)".*/\1/')
there "$ledger" pairing join --identity device --addr 10.77.0.1:7444 --code "$code" 2>joining >joined &
joining=$!
until_true grep -q digits joining
sas=$(sed -n 's/.*digits //p' joining)
request=$(sed -n 's/.*request \([0-9a-f]*\).*/\1/p' joining)

# The link fails while the device waits; it is approved meanwhile.
ip link set near down
"$ledger" pairing approve "$request" --sas "$sas"
sleep 2
[ ! -e device/identity.pem ]
ip link set near up
wait "$joining"
[ -e device/identity.pem ]

there "$ledger" certs renew --identity device
device=$("$ledger" --format json devices list | sed 's/.*"id": *"\([0-9a-f]*\)".*/\1/')
"$ledger" devices revoke "$device" --yes
refused=0
there "$ledger" certs renew --identity device || refused=$?
[ "$refused" = 20 ]
told() { "$ledger" log show | grep -q 'device_revoked.*10\.77\.0\.2\|10\.77\.0\.2.*device_revoked'; }
until_true told
kill -TERM "$daemon"
wait "$daemon"
"$ledger" log verify --state
