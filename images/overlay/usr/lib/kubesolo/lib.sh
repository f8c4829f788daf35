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
# Put a service under supervision.
supervise() {
    # runsv writes beside the run script, so the service lives in memory.
    mkdir -p /run/sv
    cp -r "/usr/lib/kubesolo/services/$1" "/run/sv/$1"
    ln -s "/run/sv/$1" "/run/service/$1"
}
