package main

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage"
)

const (
	roomEvery  = 5 * time.Minute
	roomSeldom = time.Hour
	roomLimit  = 2 * time.Minute
)

// keepRoom looks now and then whether etcd has reached its quota. From then on it takes no write, and
// nothing but an operator's commands would have it take any again, also after a restart.
func keepRoom(stop context.Context, server *etcdserver.EtcdServer) {
	for {
		pause := roomEvery
		if err := makeRoom(stop, server); err != nil && stop.Err() == nil {
			say("the datastore is full, and room cannot be made: %v", err)
			// Requests wait while it tries.
			pause = roomSeldom
		}
		select {
		case <-stop.Done():
			return
		case <-time.After(pause):
		}
	}
}

// makeRoom drops the history of a datastore that is full, gives its space back and has it take writes again.
func makeRoom(stop context.Context, server *etcdserver.EtcdServer) error {
	full := false
	for _, alarm := range server.Alarms() {
		full = full || alarm.Alarm == pb.AlarmType_NOSPACE
	}
	if !full {
		return nil
	}
	ctx, cancel := context.WithTimeout(stop, roomLimit)
	defer cancel()
	client := v3client.New(server)
	defer client.Close()
	revision := server.KV().Rev()
	if _, err := client.Compact(ctx, revision, clientv3.WithCompactPhysical()); err != nil {
		say("the datastore's history stays: %v", err)
	}
	if err := server.Backend().Defrag(); err != nil {
		return err
	}
	used, quota := server.Backend().Size(), server.Cfg.QuotaBackendBytes
	if quota == 0 {
		quota = storage.DefaultQuotaBytes
	}
	// It would be full again at the next write.
	if used > quota/10*9 {
		return fmt.Errorf("%d of %d kB are in use without its history", used>>10, quota>>10)
	}
	if _, err := client.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		return err
	}
	say("the datastore was full: its history up to revision %d was dropped, %d kB are in use",
		revision, used>>10)
	return nil
}
