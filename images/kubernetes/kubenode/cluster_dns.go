package main

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	dnsName = "cluster-dns"
	// Connections over TCP at a time, and how long one is kept that sends or takes nothing.
	dnsConnections = 64
	dnsIdle        = 3 * time.Second
	// Questions that are worked on at a time; what comes beyond them is not answered.
	dnsQuestions = 512
	// Between two attempts to have its address.
	dnsRetry = 3 * time.Second
	// CNAMEs that are followed for one question.
	dnsHops = 8
)

// clusterDNS answers for the cluster's domain what the Services say, and asks others the rest.
type clusterDNS struct {
	domain    string
	address   net.IP
	clients   net.IPNet
	services  corelisters.ServiceLister
	endpoints corelisters.EndpointsLister
	synced    []cache.InformerSynced
	forward   *forwarder
	// Questions that are worked on.
	busy int32
	// 1 when something has changed since zone was made.
	stale int32
	lock  sync.Mutex
	zone  *zone
}

func newClusterDNSCommand() *cobra.Command {
	d := &clusterDNS{stale: 1}
	var kubeconfig, resolvConf string
	var port, upstream uint16
	command := &cobra.Command{Use: dnsName, Args: cobra.NoArgs}
	flags := command.Flags()
	flags.StringVar(&kubeconfig, "kubeconfig", "", "may list and watch Services and Endpoints")
	flags.IPVar(&d.address, "bind-address", net.IPv4(127, 0, 0, 1), "where it listens, and no wider")
	flags.Uint16Var(&port, "port", 53, "of its own, UDP and TCP")
	flags.IPNetVar(&d.clients, "clients", net.IPNet{}, "who is answered beside bind-address itself")
	flags.StringVar(&d.domain, "cluster-domain", "cluster.local", "what it answers by itself")
	flags.StringVar(&resolvConf, "resolv-conf", "/etc/resolv.conf", "names who is asked the rest")
	flags.Uint16Var(&upstream, "upstream-port", 53, "of those who are asked")
	command.RunE = func(*cobra.Command, []string) error {
		d.domain = strings.ToLower(dns.Fqdn(d.domain))
		d.forward = newForwarder(resolvConf, upstream, d.address)
		return d.run(kubeconfig, port)
	}
	return command
}

// run returns when it cannot listen any more.
func (d *clusterDNS) run(kubeconfig string, port uint16) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	address := net.JoinHostPort(d.address.String(), strconv.Itoa(int(port)))
	packets, listener := listen(address)
	factory := informers.NewSharedInformerFactory(client, 0)
	services, endpoints := factory.Core().V1().Services(), factory.Core().V1().Endpoints()
	d.services, d.endpoints = services.Lister(), endpoints.Lister()
	changed := func() { atomic.StoreInt32(&d.stale, 1) }
	for _, informer := range []cache.SharedIndexInformer{services.Informer(), endpoints.Informer()} {
		d.synced = append(d.synced, informer.HasSynced)
		informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(interface{}) { changed() },
			UpdateFunc: func(interface{}, interface{}) { changed() },
			DeleteFunc: func(interface{}) { changed() },
		})
	}
	stop := make(chan struct{})
	defer close(stop)
	factory.Start(stop)

	ended := make(chan error, 2)
	few := &fewListener{listener, d.isClient, make(chan struct{}, dnsConnections)}
	clients := func(r dns.Reader) dns.Reader { return clientReader{r, d.isClient} }
	idle := func() time.Duration { return dnsIdle }
	for _, server := range []*dns.Server{
		{PacketConn: packets, Handler: d, DecorateReader: clients},
		{Listener: few, Handler: d, IdleTimeout: idle},
	} {
		server := server
		go func() { ended <- server.ActivateAndServe() }()
	}
	say("%s listens on %s", dnsName, address)
	if err := <-ended; err != nil {
		return err
	}
	return errors.New("it does not listen any more")
}

// listen waits until nobody else has the address. Its end would be that of the node's Kubernetes, and
// with it of the means to delete a pod of the host's network that took the port.
func listen(address string) (net.PacketConn, net.Listener) {
	for said := ""; ; time.Sleep(dnsRetry) {
		packets, err := net.ListenPacket("udp", address)
		if err == nil {
			var listener net.Listener
			if listener, err = net.Listen("tcp", address); err == nil {
				return packets, listener
			}
			packets.Close()
		}
		if text := err.Error(); text != said {
			say("%s waits for its address: %s", dnsName, text)
			said = text
		}
	}
}

// current is the zone as the caches have it, or nil before they have anything.
func (d *clusterDNS) current() *zone {
	for _, synced := range d.synced {
		if !synced() {
			return nil
		}
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	if atomic.SwapInt32(&d.stale, 0) == 1 {
		// A list from memory does not fail.
		services, _ := d.services.List(labels.Everything())
		endpoints, _ := d.endpoints.List(labels.Everything())
		d.zone = newZone(d.domain, d.address, services, endpoints)
	}
	return d.zone
}

func (d *clusterDNS) isClient(address net.Addr) bool {
	host, _, err := net.SplitHostPort(address.String())
	ip := net.ParseIP(host)
	if err != nil || ip == nil {
		return false
	}
	return ip.Equal(d.address) || d.clients.Contains(ip)
}

// ServeDNS answers one question of one client.
func (d *clusterDNS) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	// What a pod sends must not end the node's Kubernetes, which is this process.
	defer func() {
		if reason := recover(); reason != nil {
			say("%s cannot answer: %v", dnsName, reason)
		}
	}()
	defer atomic.AddInt32(&d.busy, -1)
	if atomic.AddInt32(&d.busy, 1) > dnsQuestions {
		return
	}
	network, size := w.RemoteAddr().Network(), dns.MaxMsgSize
	reply := d.answer(query, network)
	opt := query.IsEdns0()
	if network == "udp" {
		size = dns.MinMsgSize
		if opt != nil && int(opt.UDPSize()) > size {
			size = int(opt.UDPSize())
		}
	}
	if opt != nil && reply.IsEdns0() == nil {
		reply.SetEdns0(dns.DefaultMsgSize, false)
	}
	fit(reply, size)
	if err := w.WriteMsg(reply); err != nil {
		// Some names that the API takes cannot be sent.
		_ = w.WriteMsg(failed(query, dns.RcodeServerFailure))
	}
}

func (d *clusterDNS) answer(query *dns.Msg, network string) *dns.Msg {
	// A header alone passes for a message, whatever it promises.
	if len(query.Question) != 1 {
		return failed(query, dns.RcodeFormatError)
	}
	asked, opt := query.Question[0], query.IsEdns0()
	switch {
	case opt != nil && opt.Version() != 0:
		return failed(query, dns.RcodeBadVers)
	case query.Opcode != dns.OpcodeQuery:
		return failed(query, dns.RcodeNotImplemented)
	case asked.Qclass != dns.ClassINET, asked.Qtype == dns.TypeAXFR, asked.Qtype == dns.TypeIXFR:
		return failed(query, dns.RcodeRefused)
	}
	name, z := strings.ToLower(asked.Name), d.current()
	inside := dns.IsSubDomain(d.domain, name)
	if inside && z == nil {
		return failed(query, dns.RcodeServerFailure)
	}
	if !inside && (z == nil || asked.Qtype != dns.TypePTR || z.records[name] == nil) {
		return d.forward.ask(query, network)
	}
	reply := failed(query, dns.RcodeSuccess)
	reply.Authoritative = true
	z.fill(reply, name, asked.Qtype)
	for hop := 0; hop < dnsHops; hop++ {
		target := unfollowed(reply, asked.Qtype)
		if target == "" {
			break
		}
		if dns.IsSubDomain(d.domain, target) {
			z.fill(reply, target, asked.Qtype)
			continue
		}
		further := new(dns.Msg).SetQuestion(target, asked.Qtype)
		if opt != nil {
			further.SetEdns0(opt.UDPSize(), false)
		}
		answer := d.forward.ask(further, network)
		reply.Answer = append(reply.Answer, answer.Answer...)
		reply.Rcode, reply.Truncated = answer.Rcode, answer.Truncated
		break
	}
	return reply
}

// unfollowed is the target of a CNAME that the answer ends with and the client did not ask for.
func unfollowed(reply *dns.Msg, qtype uint16) string {
	if len(reply.Answer) == 0 || qtype == dns.TypeCNAME || qtype == dns.TypeANY {
		return ""
	}
	if last, ok := reply.Answer[len(reply.Answer)-1].(*dns.CNAME); ok {
		return strings.ToLower(last.Target)
	}
	return ""
}

// failed is a reply without an answer.
func failed(query *dns.Msg, rcode int) *dns.Msg {
	reply := new(dns.Msg).SetReply(query)
	reply.Rcode, reply.RecursionAvailable = rcode, true
	return reply
}

// fit makes a reply no larger than size: what is only helpful goes without a word, answers do not.
func fit(reply *dns.Msg, size int) {
	reply.Compress = true
	if reply.Len() <= size {
		return
	}
	opt := reply.IsEdns0()
	reply.Extra = nil
	if opt != nil {
		reply.Extra = []dns.RR{opt}
	}
	for reply.Len() > size && len(reply.Answer)+len(reply.Ns) > 0 {
		reply.Truncated, reply.Ns = true, nil
		reply.Answer = reply.Answer[:len(reply.Answer)/2]
	}
}

// clientReader passes over what others than clients send: Linux takes a packet for any address of its
// own from any network.
type clientReader struct {
	dns.Reader
	isClient func(net.Addr) bool
}

func (r clientReader) ReadUDP(
	packets *net.UDPConn, timeout time.Duration,
) ([]byte, *dns.SessionUDP, error) {
	for {
		message, session, err := r.Reader.ReadUDP(packets, timeout)
		if err != nil || r.isClient(session.RemoteAddr()) {
			return message, session, err
		}
	}
}

// fewListener takes connections of clients, as many at a time as slots has room for.
type fewListener struct {
	net.Listener
	isClient func(net.Addr) bool
	slots    chan struct{}
}

func (l *fewListener) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	for {
		connection, err := l.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		if l.isClient(connection.RemoteAddr()) {
			return &fewConn{Conn: connection, slots: l.slots}, nil
		}
		connection.Close()
	}
}

type fewConn struct {
	net.Conn
	once  sync.Once
	slots chan struct{}
}

// Write gives up on a client that takes nothing: the library would wait for it for ever.
func (c *fewConn) Write(data []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(dnsIdle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(data)
}

func (c *fewConn) Close() error {
	c.once.Do(func() { <-c.slots })
	return c.Conn.Close()
}
