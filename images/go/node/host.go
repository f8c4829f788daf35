package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"k8s.io/klog/v2"
)

// How long a stop waits for what can stop by itself, and then for etcd: together below the ten
// seconds after which a supervisor may kill. The API server's requests take milliseconds, but it
// would wait a minute for the watches of the components in this process.
const (
	stopComponents = 1500 * time.Millisecond
	stopEtcd       = 6 * time.Second
)

// host runs the components of a plan. The first that ends while it should run ends the process;
// SIGTERM and SIGINT stop them, etcd last.
type host struct {
	plan   plan
	ended  chan ending
	stop   context.Context
	cancel context.CancelFunc
	log    *log
	// The components that run; they end when stop does.
	running sync.WaitGroup
	// Once a stop has begun, what ends does not matter.
	stopping atomic.Bool
	etcd     *embed.Etcd
	etcdLock sync.Mutex
}

type ending struct {
	name   string
	exit   int
	reason string
}

func newHost(p plan) *host {
	h := &host{plan: p, ended: make(chan ending, 1)}
	h.stop, h.cancel = context.WithCancel(context.Background())
	return h
}

func (h *host) run() int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	h.log = startLog(h.plan.verbosity)
	klog.OsExit = h.fatal
	go h.work()
	select {
	case end := <-h.ended:
		say("%s ended: %s", end.name, end.reason)
		h.end()
		return end.exit
	case received := <-signals:
		say("stopping: %s", received)
		h.end()
		return 0
	}
}

// work goes through the plan.
func (h *host) work() {
	for i := range h.plan.steps {
		s := &h.plan.steps[i]
		if h.stop.Err() != nil {
			return
		}
		switch {
		case s.wait != nil:
			if err := s.wait.until(h.stop); err != nil {
				h.report(ending{"wait", exitWait, err.Error()})
				return
			}
		case s.ready != nil:
			go s.ready.announce(h.stop)
		case s.component.name == etcdName:
			serves := make(chan error, 1)
			go func() { serves <- h.startEtcd(s.args) }()
			// What follows can be made ready meanwhile.
			if next := i + 1; next < len(h.plan.steps) && h.plan.steps[next].component.prepare != nil {
				if !h.prepare(&h.plan.steps[next]) {
					return
				}
			}
			if err := <-serves; err != nil {
				h.report(ending{etcdName, s.component.exit, err.Error()})
				return
			}
		default:
			if s.run == nil && !h.prepare(s) {
				return
			}
			h.start(s.component, s.run)
		}
	}
}

// prepare reads a component's arguments, one component after another, because they share globals.
func (h *host) prepare(s *step) bool {
	run, err := s.component.prepare(s.args)
	if err != nil {
		h.report(ending{s.component.name, s.component.exit, err.Error()})
		return false
	}
	s.run = run
	return true
}

// start runs a component apart.
func (h *host) start(c component, run func(context.Context) error) {
	say("start %s", c.name)
	h.running.Add(1)
	go func() {
		defer h.running.Done()
		reason := "it returned"
		if err := run(h.stop); err != nil {
			reason = err.Error()
		}
		h.report(ending{c.name, c.exit, reason})
	}()
}

func (h *host) startEtcd(args []string) error {
	server, err := startEtcd(h.stop, args, func(reason string) {
		h.report(ending{etcdName, etcdExit, reason})
		select {}
	})
	if err != nil {
		return err
	}
	h.etcdLock.Lock()
	h.etcd = server
	h.etcdLock.Unlock()
	say("etcd serves")
	go keepRoom(h.stop, server.Server)
	go func() {
		select {
		case err := <-server.Err():
			h.report(ending{etcdName, etcdExit, fmt.Sprint(err)})
		case <-server.Server.StopNotify():
			h.report(ending{etcdName, etcdExit, "the server stopped"})
		}
	}()
	return nil
}

// report passes on the first ending; later ones, and those of a stop, are its consequences.
func (h *host) report(end ending) {
	if !h.stopping.Load() {
		select {
		case h.ended <- end:
		default:
		}
	}
}

// fatal stands in for os.Exit after klog's fatal messages, which components end with. It does not
// return, as the caller expects.
func (h *host) fatal(int) {
	c := caller()
	reason := strings.TrimSpace(h.log.fatal())
	// What precedes is time, process and place.
	if i := strings.Index(reason, "] "); i >= 0 {
		reason = reason[i+2:]
	}
	h.report(ending{c.name, c.exit, reason})
	select {}
}

// caller says which component's code the goroutine runs.
func caller() component {
	pcs := make([]uintptr, 100)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		for _, c := range components {
			for _, path := range c.code {
				if strings.HasPrefix(frame.Function, "k8s.io/kubernetes/"+path) {
					return c
				}
			}
		}
	}
	return component{name: "a component", exit: exitFailed}
}

// end stops what runs: first what uses the datastore, then the datastore.
func (h *host) end() {
	h.stopping.Store(true)
	h.cancel()
	within(stopComponents, h.running.Wait)
	h.etcdLock.Lock()
	defer h.etcdLock.Unlock()
	etcdStops.Store(true)
	if h.etcd != nil && !within(stopEtcd, h.etcd.Close) {
		say("etcd did not close within %s", stopEtcd)
	}
	say("stopped")
}

func within(limit time.Duration, work func()) bool {
	done := make(chan struct{})
	go func() {
		work()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}
