package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"github.com/spf13/pflag"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const loadBalancerName = "load-balancer"

// How long a change that was refused waits for its next turn.
const loadBalancerAgain = 10 * time.Second

// prepareLoadBalancer gives every Service of type LoadBalancer, without a class of somebody else's, the
// one address that a node has. kube-proxy then takes packets to that address and the Service's port.
func prepareLoadBalancer(args []string) (func(context.Context) error, error) {
	set := pflag.NewFlagSet(loadBalancerName, pflag.ContinueOnError)
	kubeconfig := set.String("kubeconfig", "", "whose user may write the status of Services")
	address := set.String("address", "", "the IP address that Services get")
	if _, err := parse(loadBalancerName, args, set); err != nil {
		return nil, err
	}
	if net.ParseIP(*address) == nil {
		return nil, fmt.Errorf("--address=%s is no IP address", *address)
	}
	return func(ctx context.Context) error {
		config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
		if err != nil {
			return err
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		factory := informers.NewSharedInformerFactory(client, 0)
		set := func(object any) {
			service, ok := object.(*corev1.Service)
			if !ok || !wantsAddress(service, *address) {
				return
			}
			go assign(ctx, client, service.DeepCopy(), *address)
		}
		_, err = factory.Core().V1().Services().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    set,
			UpdateFunc: func(_, object any) { set(object) },
		})
		if err != nil {
			return err
		}
		factory.Start(ctx.Done())
		<-ctx.Done()
		factory.Shutdown()
		return nil
	}, nil
}

func wantsAddress(service *corev1.Service, address string) bool {
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer || service.Spec.LoadBalancerClass != nil ||
		service.DeletionTimestamp != nil {
		return false
	}
	given := service.Status.LoadBalancer.Ingress
	return len(given) != 1 || given[0].IP != address
}

// assign tries until the Service has the address, or is another one by then.
func assign(ctx context.Context, client kubernetes.Interface, service *corev1.Service, address string) {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": service.ResourceVersion},
		"status": map[string]any{"loadBalancer": map[string]any{
			"ingress": []map[string]string{{"ip": address}},
		}},
	})
	if err != nil {
		return
	}
	for {
		_, err := client.CoreV1().Services(service.Namespace).Patch(
			ctx, service.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
		// A change meanwhile is an event of its own, which comes here again.
		if err == nil || apierrors.IsConflict(err) || apierrors.IsNotFound(err) || ctx.Err() != nil {
			return
		}
		say("%s cannot give %s/%s its address: %v", loadBalancerName, service.Namespace, service.Name, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(loadBalancerAgain):
		}
	}
}
