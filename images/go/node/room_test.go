package main

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

func TestAFullDatastoreTakesWritesAgain(t *testing.T) {
	folder := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := startEtcd(ctx, []string{
		"--data-dir=" + filepath.Join(folder, "data"),
		"--listen-client-urls=unix://" + filepath.Join(folder, "s"), "--quota-backend-bytes=4000000",
	}, func(reason string) { panic(reason) })
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client := v3client.New(server.Server)
	defer client.Close()
	big := strings.Repeat("x", 100_000)
	key := "/key"
	put := func(i int) error {
		_, err := client.Put(ctx, key, strconv.Itoa(i)+big)
		return err
	}
	for i := 0; put(i) == nil; i++ {
		if i > 200 {
			t.Fatal("it never was full")
		}
	}
	if err := put(0); err == nil {
		t.Fatal("it is not full")
	}
	if err := makeRoom(ctx, server.Server); err != nil {
		t.Fatal(err)
	}
	if err := put(1); err != nil {
		t.Fatalf("it takes no write: %v", err)
	}
	// What is not history is kept, and what is full of it stays full.
	for i := 2; put(i) == nil; i++ {
		key = "/key" + strconv.Itoa(i)
	}
	if err := makeRoom(ctx, server.Server); err == nil || len(server.Server.Alarms()) == 0 {
		t.Fatalf("it is said to have room: %v", err)
	}
	if found, err := client.Get(ctx, "/key2"); err != nil || len(found.Kvs) != 1 {
		t.Fatalf("what was kept is gone: %v", err)
	}
}
