# Functions of the boot stages, and what the initramfs recorded: slot, disk, KSOLODATA and so on.
# shellcheck disable=SC1091,SC2034
. /run/kubesolo/early
# The console is the last of these; a person may be looking at another one. The kernel's log keeps what
# is said; as a debug message (7) it comes to no console a second time.
say() {
    show "$@"
    echo "<7>kubesolo: $*" > /dev/kmsg
}
# The same for what no log may keep.
show() {
    echo "kubesolo: $*" > /dev/console
    read -r consoles < /sys/class/tty/console/active
    case $consoles in
        *'tty0 '*) echo "kubesolo: $*" > /dev/tty0 ;;
    esac
}
problem() {
    say "problem: $*"
    echo "$*" >> /run/kubesolo/problems
}
# Prints the first line of a file that says something. An editor on Windows leaves a byte order mark before
# it, and CR behind it.
first_line() {
    tr '\r' '\n' < "$1" | sed -n "1s/^$(printf '\357\273\277')//; s/^[[:blank:]]*//; s/[[:blank:]]*\$//; /./{p;q;}"
}
# Prints what /etc/kubesolo/security.conf says of a key: security_setting KEY DEFAULT. The last line of a
# key counts.
security_setting() {
    value=''
    if [ -r /etc/kubesolo/security.conf ]; then
        value=$(tr -d '\r' < /etc/kubesolo/security.conf |
            sed -n "s/^[[:blank:]]*$1[[:blank:]]*=[[:blank:]]*//p" | sed -n '$s/[[:blank:]]*$//p')
    fi
    printf '%s\n' "${value:-$2}"
}
# Sets the kernel parameters of the file $1, as sysctl.conf(5) has them. One that the kernel does not take is
# a problem of $2, and keeps back no other.
set_kernel() {
    if sysctl -q -p "$1" 2> /dev/null; then return; fi
    sed 's/^[[:blank:]]*//; s/[[:blank:]]*=[[:blank:]]*/=/; /^[#;]/d; /^$/d' "$1" | while IFS= read -r line; do
        if ! why=$(sysctl -q -w "$line" 2>&1); then
            problem "$2: sysctl $line does not count: ${why#sysctl: }"
        fi
    done
}
# Whether the kernel was given an argument.
has_argument() {
    read -r cmdline < /proc/cmdline
    case " $cmdline " in
        *" $1 "*) return 0 ;;
        *) return 1 ;;
    esac
}
# Whether this boot is for the installer alone: a person said so at the medium's menu, or a seed does. An
# installed system passes both over.
installs() {
    # shellcheck disable=SC2154 # mode comes from the initramfs
    [ "$mode" = live ] || return 1
    has_argument kubesolo.install || [ -e /run/kubesolo/install-ordered ]
}
# Sets watchdog to the device to feed, the hardware's first where there is one: the kernel's own, softdog,
# resets only a machine that still runs. The initramfs says the same.
find_watchdog() {
    watchdog=''
    for folder in /sys/class/watchdog/*; do
        [ -r "$folder/identity" ] || continue
        read -r identity < "$folder/identity"
        [ -n "$watchdog" ] || watchdog=/dev/${folder##*/}
        [ "$identity" != 'Software Watchdog' ] || continue
        watchdog=/dev/${folder##*/}
        break
    done
}
# Opened and closed without the magic character it keeps running, which the kernel would print each time.
feed() {
    find_watchdog
    [ -c "$watchdog" ] || return 0
    echo 1 > /proc/sys/kernel/printk
    : > "$watchdog"
    echo 4 > /proc/sys/kernel/printk
}
# Run a command that may rightly take longer than the watchdog waits, half an hour at most. Who reads its
# output is not held up by the last sleep.
patiently() {
    (
        fed=0
        while [ $fed -lt 360 ]; do
            fed=$((fed + 1))
            sleep 5
            feed
        done
    ) > /dev/null &
    feeder=$!
    "$@"
    set -- $?
    kill $feeder 2> /dev/null
    wait $feeder 2> /dev/null
    return "$1"
}
# Restart at once: neither file systems nor drivers are asked, which may wait for a disk for ever. The
# firmware keeps the kernel's log, where it can.
force_reboot() {
    echo 1 > /sys/module/printk/parameters/always_kmsg_dump
    echo b > /proc/sysrq-trigger
}
# What a Raspberry Pi's firmware needs of the system to try a slot; says what it does on the console.
tryboot() {
    python3 -ISB -c 'import sys
sys.path += ["/usr/lib/kubesolo/python"]
from product.agent.bootloader.restart import main
sys.exit(main(sys.argv[1:]))' "$@" > /dev/console
}
# Keep what time it is, so that the next boot does not begin before it; `synchronised` where NTP said it.
# Not the latest ever known: a clock that stood in the future is corrected, and so must this be.
keep_time() {
    kept=/var/lib/kubesolo/time/known
    word=clock
    if [ -e /run/kubesolo/time/since ]; then word=synchronised; fi
    mkdir -p /var/lib/kubesolo/time
    echo "$(date +%s) $word" > $kept.new
    mv $kept.new $kept
}
# Put a service under supervision. Its output is logged, unless it has a file `nolog`.
supervise() {
    # runsv writes beside the run script, so the service lives in memory.
    mkdir -p /run/sv
    cp -r "/usr/lib/kubesolo/services/$1" "/run/sv/$1"
    if [ ! -e "/run/sv/$1/nolog" ]; then
        mkdir -p "/run/sv/$1/log"
        ln -s /usr/lib/kubesolo/log-service "/run/sv/$1/log/run"
    fi
    ln -s "/run/sv/$1" "/run/service/$1"
}
