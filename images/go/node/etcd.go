package main

import (
	"context"
	"errors"
	goflag "flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const etcdName = "etcd"

// Once a stop has begun: listeners that end are then no errors.
var etcdStops atomic.Bool

// etcdConfig reads the few of etcd's own flags that a single member needs, under etcd's names.
func etcdConfig(args []string) (*embed.Config, time.Duration, error) {
	cfg := embed.NewConfig()
	flags := goflag.NewFlagSet(etcdName, goflag.ContinueOnError)
	flags.StringVar(&cfg.Dir, "data-dir", "/var/lib/etcd", "directory of the data")
	client := flags.String("listen-client-urls", "http://127.0.0.1:2379", "https://HOST:PORT or unix://PATH")
	flags.StringVar(&cfg.ClientTLSInfo.CertFile, "cert-file", "", "server's certificate")
	flags.StringVar(&cfg.ClientTLSInfo.KeyFile, "key-file", "", "server's key")
	flags.StringVar(&cfg.ClientTLSInfo.TrustedCAFile, "trusted-ca-file", "", "who may sign clients")
	flags.BoolVar(&cfg.ClientTLSInfo.ClientCertAuth, "client-cert-auth", false, "clients need a certificate")
	flags.Int64Var(&cfg.QuotaBackendBytes, "quota-backend-bytes", 0, "size limit; 0: etcd's default")
	flags.Uint64Var(&cfg.SnapshotCount, "snapshot-count", cfg.SnapshotCount, "writes between snapshots")
	flags.UintVar(&cfg.TickMs, "heartbeat-interval", 50, "milliseconds")
	flags.UintVar(&cfg.ElectionMs, "election-timeout", 250, "milliseconds; a single member waits as long at its start")
	flags.StringVar(&cfg.LogLevel, "log-level", "error", "debug, info, warn or error")
	limit := flags.Duration("start-timeout", 2*time.Minute, "until it serves")
	if err := flags.Parse(args); err != nil {
		return nil, 0, err
	}
	if flags.NArg() > 0 {
		return nil, 0, fmt.Errorf("%q is no option", flags.Arg(0))
	}
	// The addresses for peers, and for clients beside a socket, are only names: a single member has
	// nobody to tell. etcd's own reading of addresses wants a port in a socket's name, too.
	if path := strings.TrimPrefix(*client, "unix://"); path != *client {
		cfg.ListenClientUrls = types.URLs{{Scheme: "unix", Host: path}}
	} else {
		clients, err := types.NewURLs([]string{*client})
		if err != nil {
			return nil, 0, err
		}
		cfg.ListenClientUrls, cfg.AdvertiseClientUrls = clients, clients
	}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.Logger = "zap"
	// Defragmented when it starts, where that frees so much.
	cfg.BootstrapDefragThresholdMegabytes = 100
	return cfg, *limit, nil
}

// etcdLog writes etcd's messages; before one ends the process, it hands it to fatal instead.
type etcdLog struct {
	zapcore.Core
	fatal func(reason string)
}

func (l *etcdLog) With(fields []zapcore.Field) zapcore.Core {
	return &etcdLog{l.Core.With(fields), l.fatal}
}

func (l *etcdLog) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if l.Enabled(entry.Level) && !etcdStops.Load() {
		return checked.AddCore(entry, l)
	}
	return checked
}

func (l *etcdLog) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	err := l.Core.Write(entry, fields)
	if entry.Level >= zapcore.PanicLevel {
		reason := entry.Message
		for _, field := range fields {
			if cause, ok := field.Interface.(error); ok {
				reason += ": " + cause.Error()
			}
		}
		l.fatal(reason)
	}
	return err
}

// startEtcd returns when it serves, or an error when it does not by its deadline or ctx ends before.
// fatal is told why etcd gives up later, and does not return.
func startEtcd(ctx context.Context, args []string, fatal func(reason string)) (server *embed.Etcd, err error) {
	cfg, limit, err := etcdConfig(args)
	if err != nil {
		return nil, err
	}
	level := zapcore.ErrorLevel
	if err := level.Set(cfg.LogLevel); err != nil {
		return nil, err
	}
	encoder := zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig())
	output := zapcore.Lock(os.Stderr)
	core := &etcdLog{zapcore.NewCore(encoder, output, level), fatal}
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(core))

	// etcd insists on listening for peers; nobody else can enter this directory.
	private, err := os.MkdirTemp("", "kubenode-etcd-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	cfg.ListenPeerUrls = []url.URL{{Scheme: "unix", Host: filepath.Join(private, "peers")}}
	for _, address := range cfg.ListenClientUrls {
		if address.Scheme == "unix" {
			_ = os.Remove(address.Host + address.Path)
		}
	}
	// What its database panics about while it opens a damaged file.
	defer func() {
		if cause := recover(); cause != nil {
			server, err = nil, fmt.Errorf("%v", cause)
		}
	}()
	server, err = embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	select {
	case <-server.Server.ReadyNotify():
		return server, nil
	case err = <-server.Err():
	case <-server.Server.StopNotify():
		err = errors.New("the server stopped")
	case <-ctx.Done():
		err = errors.New("stopped while it started")
	case <-time.After(limit):
		err = fmt.Errorf("it did not serve within %s", limit)
	}
	server.Close()
	return nil, err
}

// runEtcd is etcd alone, until ctx ends.
func runEtcd(ctx context.Context, args []string) error {
	server, err := startEtcd(ctx, args, func(reason string) {
		say("%s ended: %s", etcdName, reason)
		os.Exit(exitFailed)
	})
	if err != nil {
		return err
	}
	select {
	case err = <-server.Err():
	case <-ctx.Done():
	}
	server.Close()
	return err
}
