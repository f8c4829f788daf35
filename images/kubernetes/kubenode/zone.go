package main

import (
	"math/rand"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"

	v1 "k8s.io/api/core/v1"
)

const (
	// Of the Kubernetes DNS specification that the records follow.
	dnsSpecification = "1.1.0"
	dnsTTL           = 5
)

// zone holds the records of the cluster's domain, and the pointers to its names, by lower-case name.
// A name that only has names below it is there without records.
type zone struct {
	domain  string
	records map[string][]dns.RR
	serial  uint32
}

func newZone(domain string, address net.IP, services []*v1.Service, endpoints []*v1.Endpoints) *zone {
	z := &zone{domain, map[string][]dns.RR{}, uint32(time.Now().Unix())}
	z.add(z.soa())
	z.add(&dns.TXT{Hdr: header("dns-version."+domain, dns.TypeTXT), Txt: []string{dnsSpecification}})
	z.addAddress("ns.dns."+domain, address)
	z.add(&dns.NS{Hdr: header(domain, dns.TypeNS), Ns: "ns.dns." + domain})
	subsets := map[string][]v1.EndpointSubset{}
	for _, e := range endpoints {
		subsets[e.Namespace+"/"+e.Name] = e.Subsets
	}
	for _, s := range services {
		name := s.Name + "." + s.Namespace + ".svc." + domain
		switch {
		case s.Spec.Type == v1.ServiceTypeExternalName:
			target := dns.Fqdn(s.Spec.ExternalName)
			z.add(&dns.CNAME{Hdr: header(name, dns.TypeCNAME), Target: target})
		case s.Spec.ClusterIP == v1.ClusterIPNone:
			z.addHeadless(name, subsets[s.Namespace+"/"+s.Name])
		default:
			z.addAddress(name, net.ParseIP(s.Spec.ClusterIP))
			z.addPointer(s.Spec.ClusterIP, name)
			for _, port := range s.Spec.Ports {
				z.addPort(name, port.Name, port.Protocol, port.Port, name)
			}
		}
	}
	return z
}

// addHeadless names each ready endpoint, by its hostname or else by its address.
func (z *zone) addHeadless(name string, subsets []v1.EndpointSubset) {
	for _, subset := range subsets {
		for _, address := range subset.Addresses {
			host := strings.ReplaceAll(address.IP, ".", "-") + "." + name
			if address.Hostname != "" {
				host = address.Hostname + "." + name
				z.addPointer(address.IP, host)
			}
			z.addAddress(name, net.ParseIP(address.IP))
			z.addAddress(host, net.ParseIP(address.IP))
			for _, port := range subset.Ports {
				z.addPort(name, port.Name, port.Protocol, port.Port, host)
			}
		}
	}
}

func (z *zone) addAddress(name string, address net.IP) {
	if address = address.To4(); address != nil {
		z.add(&dns.A{Hdr: header(name, dns.TypeA), A: address})
	}
}

func (z *zone) addPointer(address, name string) {
	if reverse, err := dns.ReverseAddr(address); err == nil {
		z.add(&dns.PTR{Hdr: header(reverse, dns.TypePTR), Ptr: name})
	}
}

// addPort adds a named port; others have no record.
func (z *zone) addPort(name, port string, protocol v1.Protocol, number int32, host string) {
	if port != "" {
		owner := "_" + port + "._" + strings.ToLower(string(protocol)) + "." + name
		z.add(&dns.SRV{
			Hdr: header(owner, dns.TypeSRV), Weight: 100, Port: uint16(number), Target: host,
		})
	}
}

func header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: strings.ToLower(name), Rrtype: rrtype, Class: dns.ClassINET, Ttl: dnsTTL}
}

func (z *zone) soa() dns.RR {
	return &dns.SOA{
		Hdr: header(z.domain, dns.TypeSOA), Ns: "ns.dns." + z.domain, Mbox: "hostmaster." + z.domain,
		Serial: z.serial, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: dnsTTL,
	}
}

// add adds a record once, and the names that it lies below.
func (z *zone) add(record dns.RR) {
	name := record.Header().Name
	for _, known := range z.records[name] {
		if dns.IsDuplicate(known, record) {
			return
		}
	}
	z.records[name] = append(z.records[name], record)
	for dns.IsSubDomain(z.domain, name) && name != z.domain {
		name = name[strings.IndexByte(name, '.')+1:]
		if _, known := z.records[name]; !known {
			z.records[name] = nil
		}
	}
}

// fill adds to a reply what name has of a type, its CNAME, or why there is nothing.
func (z *zone) fill(reply *dns.Msg, name string, qtype uint16) {
	records, exists := z.records[name]
	found := 0
	// In any order, so that clients that take the first spread. Packing writes to a record.
	for _, i := range rand.Perm(len(records)) {
		record := dns.Copy(records[i])
		rrtype := record.Header().Rrtype
		if rrtype != qtype && rrtype != dns.TypeCNAME && qtype != dns.TypeANY {
			continue
		}
		found++
		reply.Answer = append(reply.Answer, record)
		if service, ok := record.(*dns.SRV); ok {
			for _, address := range z.records[service.Target] {
				if address.Header().Rrtype == dns.TypeA {
					reply.Extra = append(reply.Extra, dns.Copy(address))
				}
			}
		}
	}
	if !exists {
		reply.Rcode = dns.RcodeNameError
	}
	if found == 0 {
		reply.Ns = []dns.RR{z.soa()}
	}
}
