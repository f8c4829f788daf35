// containerd and its client ctr, one program that acts as the name it is called by.
//
// The shim of containers is upstream's own program, see go.mod: a pod keeps one running, and this
// program would take three times its memory.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/containerd/containerd/v2/cmd/containerd/command"
	ctr "github.com/containerd/containerd/v2/cmd/ctr/app"
)

func main() {
	app := command.App()
	if filepath.Base(os.Args[0]) == "ctr" {
		app = ctr.New()
	}
	if err := run(app); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", app.Name, err)
		os.Exit(1)
	}
}

func run(app *cli.App) error { return app.Run(os.Args) }
