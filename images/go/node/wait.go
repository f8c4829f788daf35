package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

const (
	askEvery = 100 * time.Millisecond
	// Asking for a node costs the API server more than refusing a connection does.
	askForNode = 250 * time.Millisecond
	bootIDFile = "/proc/sys/kernel/random/boot_id"
	askTimeout = 20 * time.Second
)

// client trusts the CA alone and shows its certificate. The files are read when the line is reached.
func (f tlsFiles) client() (*http.Client, error) {
	authorities := x509.NewCertPool()
	text, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, err
	}
	if !authorities.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", f.ca)
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %v", f.cert, f.key, err)
	}
	config := &tls.Config{RootCAs: authorities, Certificates: []tls.Certificate{pair}}
	// One connection, kept: a handshake is dear on a slow processor.
	transport := &http.Transport{TLSClientConfig: config, MaxConnsPerHost: 1, Proxy: nil}
	return &http.Client{Transport: transport, Timeout: askTimeout}, nil
}

// get returns the body of a 200.
func get(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer was %s", response.Status)
	}
	return body, nil
}

// until asks again and again; the error says what was last in the way.
func (t *target) until(stop context.Context) error {
	ask := func(ctx context.Context) error {
		connection, err := (&net.Dialer{}).DialContext(ctx, "unix", t.url.Host+t.url.Path)
		if err != nil {
			return err
		}
		return connection.Close()
	}
	if t.url.Scheme == "https" {
		client, err := t.tls.client()
		if err != nil {
			return err
		}
		defer client.CloseIdleConnections()
		ask = func(ctx context.Context) error {
			_, err := get(ctx, client, t.url.String())
			return err
		}
	}
	ok, last := poll(stop, t.deadline, askEvery, ask)
	if !ok {
		return fmt.Errorf("%s did not answer within %s: %v", t.url, t.deadline, last)
	}
	say("%s answers", t.url)
	return nil
}

// started is when this process began; timestamps of Kubernetes have whole seconds.
var started = time.Now().Truncate(time.Second)

// announced is closed when the node was announced as Ready.
var announced = make(chan struct{})

// announce says once that the node is Ready. A node that is late is said too and still waited for.
func (a *announcement) announce(stop context.Context) {
	client, err := a.tls.client()
	if err != nil {
		say("cannot ask whether node %s is ready: %v", a.node, err)
		return
	}
	defer client.CloseIdleConnections()
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		say("cannot tell one boot from another: %v", err)
	}
	ask := func(ctx context.Context) error {
		body, err := get(ctx, client, a.server+"/api/v1/nodes/"+a.node)
		if err != nil {
			return err
		}
		return nodeReady(body, strings.TrimSpace(string(boot)))
	}
	ok, last := poll(stop, a.deadline, askForNode, ask)
	settle := sync.OnceFunc(a.settle)
	for !ok {
		if stop.Err() != nil {
			return
		}
		// What is never Ready is not to be fed for ever.
		settle()
		say("node %s is not ready after %s: %v", a.node, a.deadline, last)
		ok, last = poll(stop, a.deadline, askForNode, ask)
	}
	say("node %s is ready", a.node)
	close(announced)
	defer settle()
	if a.file != "" {
		file, err := os.OpenFile(a.file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err == nil {
			_, err = file.WriteString(a.text + "\n")
			file.Close()
		}
		if err != nil {
			say("cannot say so in %s: %v", a.file, err)
		}
	}
}

// settle ends the start, in which memory was traded for time.
func (a *announcement) settle() {
	if a.gc == 0 {
		return
	}
	debug.SetGCPercent(a.gc)
	debug.SetMemoryLimit(math.MaxInt64)
	debug.FreeOSMemory()
	say("memory is collected at %d percent from now on", a.gc)
}

// nodeReady says why the node is not Ready, or nil. What an earlier boot or an earlier process left in
// the datastore does not count; without a boot's name only the time tells.
func nodeReady(body []byte, boot string) error {
	var node struct {
		Status struct {
			Conditions []struct {
				Type, Status, Message string
				LastHeartbeatTime     time.Time
			}
			NodeInfo struct{ BootID string }
		}
	}
	if err := json.Unmarshal(body, &node); err != nil {
		return err
	}
	if boot != "" && node.Status.NodeInfo.BootID != boot {
		return errors.New("the kubelet has not reported in this boot")
	}
	for _, c := range node.Status.Conditions {
		if c.Type != "Ready" {
			continue
		}
		// A clock that was set back since proves nothing.
		if c.LastHeartbeatTime.Before(started) && !time.Now().Before(started) {
			return errors.New("the kubelet has not reported since the start")
		}
		if c.Status == "True" {
			return nil
		}
		return errors.New(c.Message)
	}
	return errors.New("the kubelet has not reported yet")
}

// poll asks until it succeeds, the limit is reached or stop ends; it returns the last error.
func poll(
	stop context.Context, limit, every time.Duration, ask func(context.Context) error,
) (bool, error) {
	ctx, cancel := context.WithTimeout(stop, limit)
	defer cancel()
	var last error
	for {
		err := ask(ctx)
		if err == nil {
			return true, nil
		}
		// The deadline's own error would hide what was in the way.
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return false, last
		case <-time.After(every):
		}
	}
}
