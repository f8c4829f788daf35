// kubenode: every component of a Kubernetes node and its datastore in one static program.
//
//	kubenode all PLAN            those that a plan names, in one process; see plan.go
//	kubenode COMPONENT ARG...    one component, until a signal
//	kubectl ARG...               the same program by another name
package main

import (
	"context"
	"errors"
	goflag "flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/restclient"
	_ "k8s.io/component-base/metrics/prometheus/version"

	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

// Exit codes. A component that ends while it should run ends the process with its own.
const (
	exitFailed = 1
	exitUsage  = 2
	exitWait   = 20
	etcdExit   = 11
)

// A component's prepare reads its arguments; what it returns runs until its context ends.
type component struct {
	name    string
	exit    int
	prepare func(args []string) (func(ctx context.Context) error, error)
	// Where its own code lies, below k8s.io/kubernetes.
	code []string
}

var components = []component{
	{name: etcdName, exit: etcdExit},
	{"kube-apiserver", 12, prepareAPIServer,
		[]string{"cmd/kube-apiserver/", "pkg/controlplane", "pkg/kubeapiserver", "pkg/registry/"}},
	{"kube-controller-manager", 13, prepareControllerManager,
		[]string{"cmd/kube-controller-manager/", "pkg/controller"}},
	{"kube-scheduler", 14, prepareScheduler,
		[]string{"cmd/kube-scheduler/", "pkg/scheduler"}},
	{"kubelet", 15, prepareKubelet,
		[]string{"cmd/kubelet/", "pkg/kubelet"}},
	{"kube-proxy", 16, prepareProxy,
		[]string{"cmd/kube-proxy/", "pkg/proxy"}},
	{name: loadBalancerName, exit: 17, prepare: prepareLoadBalancer},
}

func find(name string) (component, bool) {
	for _, c := range components {
		if c.name == name {
			return c, true
		}
	}
	return component{}, false
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "kubenode: "+format+"\n", args...)
}

func usage() int {
	names := []string{}
	for _, c := range components {
		names = append(names, c.name)
	}
	fmt.Fprintf(os.Stderr, "usage: kubenode all PLAN | COMPONENT ARG...\ncomponents: %s\n",
		strings.Join(names, " "))
	return exitUsage
}

// one runs a single component until a signal.
func one(name string, args []string) int {
	c, ok := find(name)
	if !ok {
		say("%q is no component", name)
		return usage()
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	err := runOne(ctx, c, args)
	if errors.Is(err, pflag.ErrHelp) || errors.Is(err, goflag.ErrHelp) {
		return 0
	} else if err != nil {
		say("%s ended: %v", name, err)
		return exitFailed
	}
	return 0
}

func runOne(ctx context.Context, c component, args []string) error {
	if c.name == etcdName {
		return runEtcd(ctx, args)
	}
	run, err := c.prepare(args)
	if err != nil {
		return err
	}
	return run(ctx)
}

func run() int {
	// The components' own clients ask for versions on purpose.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	defer klog.Flush()
	args := os.Args[1:]
	if len(args) == 0 {
		return usage()
	}
	if args[0] != "all" {
		return one(args[0], args[1:])
	}
	if len(args) != 2 {
		return usage()
	}
	plan, err := readPlan(args[1])
	if err != nil {
		say("%v", err)
		return exitUsage
	}
	return newHost(plan).run()
}

func main() {
	if filepath.Base(os.Args[0]) == kubectlName {
		kubectl()
		return
	}
	os.Exit(run())
}
