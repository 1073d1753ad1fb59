#!/usr/bin/env bash
# Prints how many cores there are for us: those that we may run on, fewer where a container's quota is less than them.
#
# Usage: scripts/cores.sh [CGROUP], where the quota is looked for; default: /sys/fs/cgroup
set -euo pipefail

group=${1:-/sys/fs/cgroup}
cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
quota=max period=1
if [[ -r $group/cpu.max ]]; then
    read -r quota period <"$group/cpu.max"
elif [[ -r $group/cpu/cpu.cfs_quota_us ]]; then
    quota=$(<"$group/cpu/cpu.cfs_quota_us") period=$(<"$group/cpu/cpu.cfs_period_us")
fi
if [[ $quota =~ ^[1-9][0-9]*$ ]] && (((quota + period - 1) / period < cores)); then
    cores=$(((quota + period - 1) / period))
fi
echo "$cores"
