// kubenode: every component of a Kubernetes node and its datastore in one static program.
//
//	kubenode COMPONENT ARG...    one component (a link of that name does the same)
//	kubenode all PLAN            those that a plan names, in one process; see plan.go
package main

import (
	goflag "flag"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	_ "k8s.io/client-go/plugin/pkg/client/auth"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/restclient"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// Exit codes. A component that ends while it should run ends the process with its own.
const (
	exitFailed = 1
	exitUsage  = 2
	exitWait   = 20
	etcdExit   = 11
)

type component struct {
	name    string
	exit    int
	command func() *cobra.Command
	// Whether it ends by itself when the process is to stop; the others end with the process.
	stoppable bool
	// Where its own code lies, below k8s.io/kubernetes.
	code []string
}

var components = []component{
	{name: etcdName, exit: etcdExit},
	{"kube-apiserver", 12, apiserver.NewAPIServerCommand, true,
		[]string{"cmd/kube-apiserver/", "pkg/controlplane", "pkg/kubeapiserver", "pkg/registry/"}},
	{"kube-controller-manager", 13, controllermanager.NewControllerManagerCommand, false,
		[]string{"cmd/kube-controller-manager/", "pkg/controller"}},
	{"kube-scheduler", 14, func() *cobra.Command { return scheduler.NewSchedulerCommand() }, false,
		[]string{"cmd/kube-scheduler/", "pkg/scheduler"}},
	{"kubelet", 15, kubelet.NewKubeletCommand, true,
		[]string{"cmd/kubelet/", "pkg/kubelet"}},
	{"kube-proxy", 16, proxy.NewProxyCommand, false,
		[]string{"cmd/kube-proxy/", "pkg/proxy"}},
	{name: dnsName, exit: 17, command: newClusterDNSCommand},
}

func find(name string) (component, bool) {
	for _, c := range components {
		if c.name == name {
			return c, true
		}
	}
	return component{}, false
}

func say(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "kubenode: "+format+"\n", args...)
}

func usage() int {
	names := []string{}
	for _, c := range components {
		names = append(names, c.name)
	}
	fmt.Fprintf(os.Stderr, "usage: kubenode all PLAN | COMPONENT ARG...\ncomponents: %s kubectl\n",
		strings.Join(names, " "))
	return exitUsage
}

// one runs a single component, or kubectl, as its own program would.
func one(name string, args []string) int {
	os.Args = append([]string{name}, args...)
	var command *cobra.Command
	if name == "kubectl" {
		command = kubectl.NewDefaultKubectlCommand()
	} else if name == etcdName {
		if err := runEtcd(args); err != nil {
			say("%s ended: %v", etcdName, err)
			return exitFailed
		}
		return 0
	} else if c, ok := find(name); ok {
		command = c.command()
	} else {
		say("%q is no component", name)
		return usage()
	}
	// cobra has said what was wrong.
	if command.Execute() != nil {
		return exitFailed
	}
	return 0
}

func run() int {
	rand.Seed(time.Now().UnixNano())
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if _, ok := find(name); !ok && name != "kubectl" {
		if len(args) == 0 {
			return usage()
		}
		name, args = args[0], args[1:]
	}
	pflag.CommandLine.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	pflag.CommandLine.AddGoFlagSet(goflag.CommandLine)
	logs.InitLogs()
	defer logs.FlushLogs()
	if name != "all" {
		return one(name, args)
	}
	if len(args) != 1 {
		return usage()
	}
	plan, err := readPlan(args[0])
	if err != nil {
		say("%v", err)
		return exitUsage
	}
	return newHost(plan).run()
}

func main() {
	os.Exit(run())
}
