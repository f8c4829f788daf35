package main

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/storage/storagebackend"
)

func TestPartsOfOneClientOutliveEachOther(t *testing.T) {
	folder := t.TempDir()
	socket := "unix://" + filepath.Join(folder, "s")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := startEtcd(ctx, []string{
		"--data-dir=" + filepath.Join(folder, "data"), "--listen-client-urls=" + socket,
	}, func(reason string) { panic(reason) })
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	whole, err := newETCD3Client(storagebackend.TransportConfig{ServerList: []string{socket}})
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	first, second := part(whole), part(whole)
	watched := second.Watch(ctx, "/a")
	if _, err := first.Put(ctx, "/a", "1"); err != nil {
		t.Fatal(err)
	}
	if event := <-watched; string(event.Events[0].Kv.Value) != "1" {
		t.Fatalf("saw %v", event)
	}
	if _, err := first.Grant(ctx, 60); err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	if _, err := second.Put(ctx, "/a", "2"); err != nil {
		t.Fatal(err)
	}
	if event := <-watched; string(event.Events[0].Kv.Value) != "2" {
		t.Fatalf("saw %v", event)
	}
	_ = second.Close()
	if _, err := whole.KV.Get(ctx, "/a"); err != nil {
		t.Fatal(err)
	}
}

func TestTheMakerOfAStorageIsToldFromOthers(t *testing.T) {
	ask := func(suffix string) bool {
		return func() bool { return calledBy(suffix) }()
	}
	if !ask("TestTheMakerOfAStorageIsToldFromOthers.func1") || ask(storageMaker) {
		t.Fatal("the caller was not told from others")
	}
}
