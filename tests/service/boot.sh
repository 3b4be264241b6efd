#!/bin/bash
# A machine made of namespaces: a real systemd as PID 1, on an overlay of this machine's root. What it writes goes into a tmpfs, which
# outlives its reboots and ends with it. Called by box.py as: boot.sh FOLDER, in a mount namespace and a cgroup of its own.
set -euo pipefail
box=$1

if [ "${2:-}" != inside ]; then
    mount --make-rprivate /
    mount -t tmpfs -o size=4g,mode=755 box "$box"
    mkdir "$box/upper" "$box/work" "$box/root"
    while true; do # `systemctl reboot` inside ends the namespaces; they are made again, the disk stays
        unshare --fork --kill-child --pid --mount --uts --ipc --net --cgroup "$0" "$box" inside || true
    done
fi

mount --make-rprivate /
root=$box/root
mount -t overlay -o "lowerdir=/,upperdir=$box/upper,workdir=$box/work" overlay "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
    mount -t tmpfs -o mode=755 cgroups "$root/sys/fs/cgroup"
    while read -r _ where kind options _; do
        [[ $where == /sys/fs/cgroup/* && $kind == cgroup* ]] || continue
        here=$root$where
        mkdir -p "$here"
        if [ "$kind" = cgroup2 ]; then mount -t cgroup2 cgroup2 "$here"; else mount -t cgroup -o "${options#rw,relatime,}" cgroup "$here"; fi
    done </proc/self/mounts
fi
mount --rbind /dev "$root/dev"
ip link set lo up
# Of what this machine starts, nothing; what the package enables starts at the next boot.
if [ ! -e "$root/etc/box" ]; then
    touch "$root/etc/box"
    for kind in multi-user sockets timers graphical; do
        rm -f "$root"/{etc,usr/lib}/systemd/system/$kind.target.wants/*
    done
    rm -f "$root/usr/sbin/policy-rc.d"
    for unit in systemd-binfmt.service proc-sys-fs-binfmt_misc.automount; do # they would empty and fill the machine's own table
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
fi
cd "$root"
mkdir -p .before
pivot_root . .before
umount -l /.before
exec env -i container=box PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=multi-user.target \
    --log-target=journal --show-status=0
