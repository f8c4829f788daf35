// CoreDNS with the plugins that a node's cluster DNS needs, and name servers that may change.
package main

import (
	"flag"
	"os"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/acl"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/minimal"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
)

func main() {
	path := flag.String("corefile", "Corefile", "read anew whenever the plugin reload looks")
	// Not one of the registered loaders: a second one beside CoreDNS' own would be an error.
	caddy.SetDefaultCaddyfileLoader("node", caddy.LoaderFunc(func(kind string) (caddy.Input, error) {
		text, err := os.ReadFile(*path)
		if err != nil {
			return nil, err
		}
		return caddy.CaddyfileInput{
			Contents: expand(text), Filepath: *path, ServerTypeName: kind,
		}, nil
	}))
	coremain.Run()
}
