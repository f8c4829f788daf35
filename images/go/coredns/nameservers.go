package main

import (
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// As many as the C library asks.
const maxServers = 3

// A forward of everything to the servers of a file, with its block if it has one.
var forwardFile = regexp.MustCompile(`(?m)^([ \t]*forward[ \t]+\.)[ \t]+(/\S+)([ \t]*(?:\{[^}]*\})?)`)

var bindLine = regexp.MustCompile(`(?m)^[ \t]*bind[ \t]+(.*)$`)

// expand puts the name servers of a resolv.conf in the place of its path.
//
// The plugin forward reads the file once and does not start where it names nobody. Expanded here, a
// changed file is a changed Corefile, which the plugin reload follows. Without a name server there is
// no forward: CoreDNS then answers SERVFAIL to what it does not know itself.
func expand(corefile []byte) []byte {
	var self []string
	for _, line := range bindLine.FindAllSubmatch(corefile, -1) {
		self = append(self, strings.Fields(string(line[1]))...)
	}
	return forwardFile.ReplaceAllFunc(corefile, func(match []byte) []byte {
		parts := forwardFile.FindSubmatch(match)
		servers := nameservers(string(parts[2]), self)
		if len(servers) == 0 {
			return nil
		}
		return []byte(string(parts[1]) + " " + strings.Join(servers, " ") + string(parts[3]))
	})
}

// nameservers are the addresses that a resolv.conf names, never self: that would be a loop. A file that
// cannot be read names nobody.
func nameservers(path string, self []string) []string {
	config, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil
	}
	var servers []string
	for _, server := range config.Servers {
		address := net.ParseIP(server)
		if address == nil || slices.Contains(self, address.String()) ||
			slices.Contains(servers, address.String()) || len(servers) == maxServers {
			continue
		}
		servers = append(servers, address.String())
	}
	return servers
}
