# Functions of the boot stages, and what the initramfs recorded: slot, disk, KSOLODATA and so on.
# shellcheck disable=SC1091,SC2034
. /run/kubesolo/early
say() { echo "kubesolo: $*" > /dev/console; }
problem() {
    say "problem: $*"
    echo "$*" >> /run/kubesolo/problems
}
# Whether the kernel was given an argument.
has_argument() {
    read -r cmdline < /proc/cmdline
    case " $cmdline " in
        *" $1 "*) return 0 ;;
        *) return 1 ;;
    esac
}
# Run a command that may rightly take longer than the watchdog waits, half an hour at most.
patiently() {
    (
        fed=0
        while [ $fed -lt 360 ]; do
            fed=$((fed + 1))
            sleep 5
            if [ -c /dev/watchdog0 ]; then
                dmesg -n 1
                : > /dev/watchdog0
                dmesg -n 4
            fi
        done
    ) &
    feeder=$!
    "$@"
    set -- $?
    kill $feeder 2> /dev/null
    wait $feeder 2> /dev/null
    return "$1"
}
# Restart at once: neither file systems nor drivers are asked, which may wait for a disk for ever.
force_reboot() { echo b > /proc/sysrq-trigger; }
# Put a service under supervision.
supervise() {
    # runsv writes beside the run script, so the service lives in memory.
    mkdir -p /run/sv
    cp -r "/usr/lib/kubesolo/services/$1" "/run/sv/$1"
    ln -s "/run/sv/$1" "/run/service/$1"
}
