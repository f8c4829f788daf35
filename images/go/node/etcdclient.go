package main

import (
	"context"
	"runtime"
	"strings"
	"sync"
	_ "unsafe" // for go:linkname

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"

	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/feature"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	_ "k8s.io/apiserver/pkg/storage/storagebackend/factory" // has the variable below
)

// The API server makes a client of etcd for each of its hundred kinds of objects, each with a connection
// that is waited for. They are of one process, so one connection does for all of them: see
// docs/experiments/2026-12-01-upstream-start.md for what that saves. The compactor and the health checks
// keep clients of their own.
//
//go:linkname newETCD3Client k8s.io/apiserver/pkg/storage/storagebackend/factory.newETCD3Client
var newETCD3Client func(storagebackend.TransportConfig) (*kubernetes.Client, error)

// Of the function that makes the storage of one kind.
const storageMaker = "storagebackend/factory.newETCD3Storage"

// shareEtcdClient has every storage use one connection. It is to be called before the API server starts.
func shareEtcdClient() {
	whole := newETCD3Client
	var lock sync.Mutex
	made := map[string]*kubernetes.Client{}
	newETCD3Client = func(config storagebackend.TransportConfig) (*kubernetes.Client, error) {
		if !calledBy(storageMaker) {
			return whole(config)
		}
		lock.Lock()
		defer lock.Unlock()
		key := strings.Join(config.ServerList, " ")
		shared, found := made[key]
		if !found {
			client, err := whole(config)
			if err != nil {
				return nil, err
			}
			// A part names no server that could be asked.
			feature.DefaultFeatureSupportChecker.CheckClient(client.Ctx(), client, storage.RequestWatchProgress)
			made[key], shared = client, client
		}
		return part(shared), nil
	}
}

// part is a client on the connection of another, which stays open when the part is closed, as it is when a
// custom resource is deleted.
func part(of *kubernetes.Client) *kubernetes.Client {
	client := clientv3.NewCtxClient(context.Background())
	client.KV = clientv3.NewKV(of.Client)
	client.Lease = clientv3.NewLease(of.Client)
	client.Watcher = clientv3.NewWatcher(of.Client)
	client.Maintenance = of.Maintenance
	made := &kubernetes.Client{Client: client}
	made.Kubernetes = made
	return made
}

// calledBy is whether a function whose name ends in suffix called the caller's caller.
func calledBy(suffix string) bool {
	callers := make([]uintptr, 4)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for {
		frame, more := frames.Next()
		if strings.HasSuffix(frame.Function, suffix) {
			return true
		}
		if !more {
			return false
		}
	}
}
