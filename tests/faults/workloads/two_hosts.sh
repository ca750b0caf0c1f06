#!/bin/bash
# One rank a host, two hosts: here two network namespaces. Usage: two_hosts.sh TORCHRUN NETNS0 NETNS1 SCRIPT [WORD…]
torchrun=$1
hosts=("$2" "$3")
shift 3
status=0
export GLOO_SOCKET_IFNAME
for number in 0 1; do
  GLOO_SOCKET_IFNAME=$(ip -n "${hosts[number]}" -o link show type veth | awk -F'[ @:]+' '{print $2}')
  ip netns exec "${hosts[number]}" "$torchrun" --nnodes 2 --node_rank "$number" --nproc_per_node 1 --master_addr 10.77.0.1 \
    --master_port 29500 "$@" &
done
for job in $(jobs -p); do wait "$job" || status=1; done
exit "$status"
