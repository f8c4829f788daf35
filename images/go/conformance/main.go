// Kubernetes' own end-to-end tests as a program, which scenarios/conformance runs against a node.
//
// It is what TestMain of k8s.io/kubernetes/test/e2e is, with the packages that have tests for
// conformance alone, and with results that can be read while it runs.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"k8s.io/component-base/version"
	conformance "k8s.io/kubernetes/test/conformance/testdata"
	"k8s.io/kubernetes/test/e2e"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	manifests "k8s.io/kubernetes/test/e2e/testing-manifests"
	"k8s.io/kubernetes/test/fixtures"

	_ "k8s.io/kubernetes/test/e2e/apimachinery"
	_ "k8s.io/kubernetes/test/e2e/apps"
	_ "k8s.io/kubernetes/test/e2e/architecture"
	_ "k8s.io/kubernetes/test/e2e/auth"
	_ "k8s.io/kubernetes/test/e2e/common"
	_ "k8s.io/kubernetes/test/e2e/dra"
	_ "k8s.io/kubernetes/test/e2e/feature"
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	_ "k8s.io/kubernetes/test/e2e/instrumentation"
	_ "k8s.io/kubernetes/test/e2e/kubectl"
	_ "k8s.io/kubernetes/test/e2e/network"
	_ "k8s.io/kubernetes/test/e2e/node"
	_ "k8s.io/kubernetes/test/e2e/scheduling"
	_ "k8s.io/kubernetes/test/e2e/storage"
	_ "k8s.io/kubernetes/test/utils/format"
)

// The file of -results, where it was given.
var results *os.File

// One line of it: how a test ended. States are ginkgo's, such as passed, failed and skipped.
type result struct {
	Name    string  `json:"name"`
	State   string  `json:"state"`
	Seconds float64 `json:"seconds"`
	Message string  `json:"message,omitempty"`
	At      string  `json:"at,omitempty"`
}

// It is asked for the tests that were not chosen, too: those were never attempted.
func write(report ginkgo.SpecReport) {
	if results == nil || report.NumAttempts == 0 {
		return
	}
	ended := result{
		Name: report.FullText(), State: report.State.String(), Seconds: report.RunTime.Seconds(),
	}
	if report.State != types.SpecStatePassed {
		ended.Message, ended.At = report.Failure.Message, report.Failure.Location.String()
	}
	line, err := json.Marshal(ended)
	if err == nil {
		_, err = results.Write(append(line, '\n'))
	}
	framework.ExpectNoError(err, "write what -results asks for")
}

func main() {
	testing.Init()
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	path := flag.String("results", "", "a file that gets a line of JSON for each test that ends")
	flag.Parse()
	if flag.NArg() > 0 {
		fail("there are no such arguments: %q", flag.Args())
	}
	if *path != "" {
		file, err := os.OpenFile(*path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			fail("%v", err)
		}
		results = file
	}
	testfiles.AddFileSource(manifests.GetE2ETestingManifestsFS())
	testfiles.AddFileSource(fixtures.GetTestFixturesFS())
	testfiles.AddFileSource(conformance.GetConformanceTestdataFS())
	framework.AfterReadingAllFlags(&framework.TestContext)
	// Not before: it goes through all tests (ginkgo.PreviewSpecs), and forgets what was asked for
	// outside of them.
	ginkgo.ReportAfterEach(write)
	fmt.Printf("tests of Kubernetes %s\n", version.Get().GitVersion)
	testing.Main(
		regexp.MatchString, []testing.InternalTest{{Name: "E2E", F: e2e.RunE2ETests}}, nil, nil,
	)
}

func fail(text string, values ...any) {
	fmt.Fprintf(os.Stderr, "conformance: "+text+"\n", values...)
	os.Exit(2)
}
