package main

import (
	"crypto/rand"
	"encoding/binary"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// For all attempts at one question.
	forwardLimit = 5 * time.Second
	// How often each server is asked, because packets get lost.
	forwardRounds = 2
	// As the C library.
	forwardServers = 3
	// Questions that wait for an answer at a time; more are refused by SERVFAIL. Each holds a socket
	// and a buffer.
	forwardOutstanding = 256
	forwardBuffer      = 4096
)

// forwarder asks the nameservers of a resolv.conf, never itself.
type forwarder struct {
	path  string
	port  string
	self  net.IP
	slots chan struct{}

	lock    sync.Mutex
	seen    os.FileInfo
	servers []string
}

func newForwarder(path string, port uint16, self net.IP) *forwarder {
	slots := make(chan struct{}, forwardOutstanding)
	return &forwarder{path: path, port: strconv.Itoa(int(port)), self: self, slots: slots}
}

// ask returns the first answer that a server gives, or SERVFAIL.
func (f *forwarder) ask(query *dns.Msg, network string) *dns.Msg {
	reply := failed(query, dns.RcodeServerFailure)
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return reply
	}
	end, servers := time.Now().Add(forwardLimit), f.nameservers()
	answered := false
	for attempt, attempts := 0, forwardRounds*len(servers); attempt < attempts; attempt++ {
		if answered && attempt == len(servers) {
			break
		}
		limit := time.Until(end) / time.Duration(attempts-attempt)
		if limit <= 0 {
			break
		}
		answer, err := exchange(query, network, servers[attempt%len(servers)], limit)
		if err != nil {
			continue
		}
		reply, answered = answer, true
		if answer.Rcode != dns.RcodeServerFailure && answer.Rcode != dns.RcodeRefused {
			break
		}
	}
	return reply
}

// exchange asks one server once. What is no answer to this question, as a forged one, is passed over.
func exchange(query *dns.Msg, network, server string, limit time.Duration) (*dns.Msg, error) {
	end := time.Now().Add(limit)
	connection, err := net.DialTimeout(network, server, limit)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	if err := connection.SetDeadline(end); err != nil {
		return nil, err
	}
	question := query.Copy()
	// Options are between a client and this server, and nothing larger than the buffer can be read.
	question.Extra = nil
	if opt := query.IsEdns0(); opt != nil {
		size := opt.UDPSize()
		if size > forwardBuffer {
			size = forwardBuffer
		}
		question.SetEdns0(size, opt.Do())
	}
	// The library's own numbers can be guessed.
	var id [2]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	question.Id = binary.BigEndian.Uint16(id[:])
	wire := &dns.Conn{Conn: connection, UDPSize: forwardBuffer}
	if err := wire.WriteMsg(question); err != nil {
		return nil, err
	}
	for {
		answer, err := wire.ReadMsg()
		if _, broken := err.(net.Error); broken || (err != nil && network != "udp") {
			return nil, err
		}
		if err == nil && answers(answer, question) {
			answer.Id, answer.Question = query.Id, query.Question
			return answer, nil
		}
	}
}

func answers(answer, question *dns.Msg) bool {
	if !answer.Response || answer.Id != question.Id || len(answer.Question) != 1 {
		return false
	}
	a, q := answer.Question[0], question.Question[0]
	return strings.EqualFold(a.Name, q.Name) && a.Qtype == q.Qtype && a.Qclass == q.Qclass
}

// nameservers are those of the file as it is now.
func (f *forwarder) nameservers() []string {
	f.lock.Lock()
	defer f.lock.Unlock()
	now, err := os.Stat(f.path)
	if err != nil {
		f.seen, f.servers = nil, nil
		return nil
	}
	if f.seen != nil && os.SameFile(f.seen, now) && f.seen.Size() == now.Size() &&
		f.seen.ModTime().Equal(now.ModTime()) {
		return f.servers
	}
	config, err := dns.ClientConfigFromFile(f.path)
	if err != nil {
		return nil
	}
	f.seen, f.servers = now, nil
	for _, server := range config.Servers {
		address := net.ParseIP(server)
		if address != nil && !f.self.Equal(address) && len(f.servers) < forwardServers {
			f.servers = append(f.servers, net.JoinHostPort(server, f.port))
		}
	}
	return f.servers
}
