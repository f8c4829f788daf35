package main

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"

	"k8s.io/apimachinery/pkg/util/errors"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	cliflag "k8s.io/component-base/cli/flag"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	apiserveroptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	controlleroptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	kubeletoptions "k8s.io/kubernetes/cmd/kubelet/app/options"
	kubeletvalidation "k8s.io/kubernetes/pkg/kubelet/apis/config/validation"
	"k8s.io/kubernetes/pkg/kubelet/kubeletconfig/configfiles"
	utilfs "k8s.io/kubernetes/pkg/util/filesystem"
)

// The functions below do what the components' commands do between their flags and their run, but for
// the handling of signals and of logs, which this process has once.

// parse reads arguments as the component's own command would.
func parse(name string, args []string, sets ...*pflag.FlagSet) (*pflag.FlagSet, error) {
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	for _, set := range sets {
		flags.AddFlagSet(set)
	}
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("%q is no option", flags.Arg(0))
	}
	return flags, nil
}

func named(sets cliflag.NamedFlagSets) []*pflag.FlagSet {
	found := []*pflag.FlagSet{}
	for _, name := range sets.Order {
		found = append(found, sets.FlagSets[name])
	}
	return found
}

func prepareAPIServer(args []string) (func(context.Context) error, error) {
	options := apiserveroptions.NewServerRunOptions()
	if _, err := parse("kube-apiserver", args, named(options.Flags())...); err != nil {
		return nil, err
	}
	if err := options.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return nil, err
	}
	shareEtcdClient()
	// What it is made of does not need the datastore, which meanwhile starts. Two RSA keys are among it.
	type outcome struct {
		config *apiserver.Config
		err    error
	}
	made := make(chan outcome, 1)
	go func() {
		config, err := configureAPIServer(options)
		made <- outcome{config, err}
	}()
	return func(ctx context.Context) error {
		configured := <-made
		if configured.err != nil {
			return configured.err
		}
		config := configured.config
		documents := newOpenAPI()
		documents.before(config)
		whole, err := config.Complete()
		if err != nil {
			return err
		}
		server, err := apiserver.CreateServerChain(whole)
		if err != nil {
			return err
		}
		if err := documents.install(whole, server); err != nil {
			return err
		}
		prepared, err := server.PrepareRun()
		if err != nil {
			return err
		}
		return prepared.Run(ctx)
	}, nil
}

func configureAPIServer(options *apiserveroptions.ServerRunOptions) (*apiserver.Config, error) {
	completed, err := options.Complete(context.Background())
	if err != nil {
		return nil, err
	}
	if problems := completed.Validate(); len(problems) > 0 {
		return nil, errors.NewAggregate(problems)
	}
	return apiserver.NewConfig(completed)
}

func prepareControllerManager(args []string) (func(context.Context) error, error) {
	options, err := controlleroptions.NewKubeControllerManagerOptions()
	if err != nil {
		return nil, err
	}
	known, disabled := controllermanager.KnownControllers(), controllermanager.ControllersDisabledByDefault()
	aliases := controllermanager.ControllerAliases()
	sets := options.Flags(known, disabled, aliases)
	options.ParsedFlags = &sets
	if _, err := parse("kube-controller-manager", args, named(sets)...); err != nil {
		return nil, err
	}
	if err := options.ComponentGlobalsRegistry.Set(); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		config, err := options.Config(ctx, known, disabled, aliases)
		if err != nil {
			return err
		}
		return controllermanager.Run(ctx, config.Complete())
	}, nil
}

func prepareScheduler(args []string) (func(context.Context) error, error) {
	options := scheduleroptions.NewOptions()
	if _, err := parse("kube-scheduler", args, named(*options.Flags)...); err != nil {
		return nil, err
	}
	if err := options.ComponentGlobalsRegistry.Set(); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		config, made, err := scheduler.Setup(ctx, options)
		if err != nil {
			return err
		}
		return scheduler.Run(ctx, config, made)
	}, nil
}

// prepareKubelet takes the flags that its configuration file has no fields for; the rest is there.
func prepareKubelet(args []string) (func(context.Context) error, error) {
	flags := kubeletoptions.NewKubeletFlags()
	set := pflag.NewFlagSet("kubelet", pflag.ContinueOnError)
	flags.AddFlags(set)
	if _, err := parse("kubelet", args, set); err != nil {
		return nil, err
	}
	if err := kubeletoptions.ValidateKubeletFlags(flags); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		loader, err := configfiles.NewFsLoader(&utilfs.DefaultFs{}, flags.KubeletConfigFile)
		if err != nil {
			return err
		}
		config, err := loader.Load(ctx)
		if err != nil {
			return err
		}
		gates := utilfeature.DefaultMutableFeatureGate
		if err := gates.SetFromMap(config.FeatureGates); err != nil {
			return err
		}
		if err := kubeletvalidation.ValidateKubeletConfiguration(config, gates); err != nil {
			return err
		}
		server := &kubeletoptions.KubeletServer{KubeletFlags: *flags, KubeletConfiguration: *config}
		dependencies, err := kubelet.UnsecuredDependencies(ctx, server, gates)
		if err != nil {
			return err
		}
		return kubelet.Run(ctx, server, dependencies, gates)
	}, nil
}

func prepareProxy(args []string) (func(context.Context) error, error) {
	options := proxy.NewOptions()
	set := pflag.NewFlagSet("kube-proxy", pflag.ContinueOnError)
	options.AddFlags(set)
	flags, err := parse("kube-proxy", args, set)
	if err != nil {
		return nil, err
	}
	if err := options.Complete(flags); err != nil {
		return nil, err
	}
	if err := options.Validate(); err != nil {
		return nil, err
	}
	return options.Run, nil
}
