package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"

	// As upstream's kubectl has them.
	_ "k8s.io/client-go/plugin/pkg/client/auth"
)

const kubectlName = "kubectl"

// kubectl does what upstream's program of that name does. Called by that name, this program is it:
// nearly all of its code is here, and another program would be 15 MB of the image.
func kubectl() {
	// Before the command is made, which may log; it reads the flags only later.
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
