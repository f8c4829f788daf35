# Functions of the boot stages.
say() { echo "kubesolo: $*" > /dev/console; }
problem() {
    say "problem: $*"
    echo "$*" >> /run/kubesolo/problems
}
# The value that the initramfs recorded under a name.
early() { sed -n "s/^$1=//p" /run/kubesolo/early; }
has_argument() { grep -qw "$1" /proc/cmdline; }
# Put a service under supervision.
supervise() {
    # runsv writes beside the run script, so the service lives in memory.
    mkdir -p /run/sv
    cp -r "/usr/lib/kubesolo/services/$1" "/run/sv/$1"
    ln -s "/run/sv/$1" "/run/service/$1"
}
