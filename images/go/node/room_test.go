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
	put := func(i int) error {
		_, err := client.Put(ctx, "/key", strconv.Itoa(i)+big)
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
}
